"""Plugins that Hydra finds through its own namespace: thin adapters of lossbench.sweeps."""
