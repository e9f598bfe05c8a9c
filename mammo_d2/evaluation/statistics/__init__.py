"""What ``mammo-d2 stats`` computes: calibration, differences, readers, clinical numbers, and how they are written."""
