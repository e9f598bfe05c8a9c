"""Layers and tools that several models share."""
