"""Whether scores are probabilities: errors, reliability diagrams, recalibration."""
