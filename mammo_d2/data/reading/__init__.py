"""Image files to float32 pixels and what is known about them."""
