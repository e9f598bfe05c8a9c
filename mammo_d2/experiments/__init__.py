"""Several trainings in one table: ablation, cross-validation, search."""
