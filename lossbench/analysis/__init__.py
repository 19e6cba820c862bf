"""Analysis: it reads records, and nothing else."""
