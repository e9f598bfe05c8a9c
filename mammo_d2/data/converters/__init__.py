"""Data sets as they come, to images and lesions in pixels of the source files."""
