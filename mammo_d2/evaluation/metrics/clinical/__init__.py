"""What a threshold would mean in a clinic: net benefit, recall and detection rates, reclassification."""
