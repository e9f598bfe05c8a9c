"""Rows of trainings compared on the same test patients, from the predictions that their evaluations left."""
