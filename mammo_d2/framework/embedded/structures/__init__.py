"""The embedded engine's boxes, images and instances."""
