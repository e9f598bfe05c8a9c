"""Windows on and beside lesions for the lesion classifier."""
