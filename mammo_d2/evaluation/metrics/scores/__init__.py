"""Metrics of scores: ROC and precision-recall curves, DeLong, levels of aggregation."""
