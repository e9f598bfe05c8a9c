"""Metrics on numpy arrays: no framework, no files."""
