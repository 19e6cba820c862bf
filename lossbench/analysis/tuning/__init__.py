"""What equal tuning says: which differences survive it, what the budgets bought, what was chosen."""
