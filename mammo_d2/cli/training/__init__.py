"""Commands that train, and compare what was trained."""
