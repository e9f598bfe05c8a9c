"""Mutated files of every kind, from a seed: see ``python -m tests.fuzz --help``."""
