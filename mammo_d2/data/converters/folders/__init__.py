"""Converters of folders of files."""
