"""From files to training batches."""
