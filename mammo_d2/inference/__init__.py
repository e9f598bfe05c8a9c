"""Prediction on files and on given lesions."""
