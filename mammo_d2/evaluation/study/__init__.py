"""Evaluating result files against one ground truth, with tables and plots."""
