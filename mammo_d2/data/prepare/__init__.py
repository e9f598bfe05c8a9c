"""Preparing a data set: images, splits, manifest."""
