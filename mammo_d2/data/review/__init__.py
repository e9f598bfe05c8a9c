"""What a reviewer asks of a data set: counts per split, leakage, images that show no breast."""
