"""Helpers for every other package: files, boxes, masks, image geometry, labels of images and lesions."""
