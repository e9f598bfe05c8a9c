"""Several trainings in one table: comparison of methods, ablation, cross-validation, search."""
