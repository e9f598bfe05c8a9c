"""The lesion classifier's job of several stages."""
