"""Prepared records to model inputs: mapping, augmentation, sampling, loaders."""
