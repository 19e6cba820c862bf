"""Tables: read from files, understood column by column, split, and encoded as tensors."""
