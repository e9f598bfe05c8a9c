"""The framework door (draft)."""
