"""What is done to the boxes of a prediction: augmented and fused, and left out beside the breast."""
