"""Pure functions of tensors (torch only): losses, pooling, saliency, lesion maps."""
