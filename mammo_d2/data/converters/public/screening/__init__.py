"""Converters of large sets of digital mammograms, from screening or whole clinics."""
