"""What several commands share: their arguments, and the run of a command with its errors."""
