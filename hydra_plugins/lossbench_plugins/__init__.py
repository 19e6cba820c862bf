"""What Hydra finds by its own namespace: thin adapters, the work is in lossbench.sweeps."""
