"""Commands killed at random moments and started again: see ``python -m tests.kills --help``."""
