"""Converters of public sets of scanned films."""
