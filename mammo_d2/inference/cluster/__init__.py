"""Prediction past one machine."""
