"""Weight files: safe reading, names, full reports."""
