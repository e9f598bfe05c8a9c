"""Converters of public sets of digital mammograms of up to a few thousand images, most of them of findings."""
