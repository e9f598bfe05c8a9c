"""Converters of public data sets."""
