"""Evaluators that a trainer runs, chosen by TEST.EVALUATORS."""
