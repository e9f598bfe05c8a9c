"""Reader studies: figures of merit of marks and ratings, and tests over readers and cases."""
