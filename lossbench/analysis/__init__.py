"""Analysis: from records to tables, verdicts and pages. It reads records and nothing else."""
