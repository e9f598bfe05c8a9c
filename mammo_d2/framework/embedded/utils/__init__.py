"""The embedded engine's communication, events, logs and files."""
