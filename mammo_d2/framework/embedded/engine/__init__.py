"""The embedded engine's trainer, hooks, solver, launch and inference."""
