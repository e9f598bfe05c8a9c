"""Training: set-up, trainer, step, hooks, optimizer, and what a run leaves in its folder."""
