"""Settings: what may stand in them, the catalogue, and what is said of a wrong one; nothing here imports torch."""
