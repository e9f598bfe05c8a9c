"""Metrics of boxes: matching, FROC, average precision, presets."""
