"""Where the breast is in an image: mask, pectoral muscle, windows."""
