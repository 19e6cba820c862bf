"""Sweeps: all runs of one multirun, and the comparison that they make."""
