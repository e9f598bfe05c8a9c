"""Tests and intervals for differences, and how many patients a difference takes."""
