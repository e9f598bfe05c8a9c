"""Configuration: every key with its default, and loading with checks."""
