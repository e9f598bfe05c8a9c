"""Ground helpers that every room uses: files, boxes, image geometry, what is known about an image."""
