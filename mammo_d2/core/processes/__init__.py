"""What processes need: crashes of a worker, the end of the parent, signals to stop."""
