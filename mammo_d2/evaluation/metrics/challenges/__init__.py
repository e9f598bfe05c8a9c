"""Numbers of challenges as their own scripts give them."""
