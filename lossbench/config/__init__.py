"""Settings: their schema, the catalogue of losses, and error messages. Nothing here imports torch."""
