"""Converters of public data sets, by kind: scanned films, small digital sets, large ones."""
