"""Commands on trained models and their results."""
