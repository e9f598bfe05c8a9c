"""The embedded engine's Faster R-CNN."""
