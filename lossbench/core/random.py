"""Independent random streams under one seed."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def stream(seed: int, purpose: str) -> torch.Generator:
    """The random stream for one purpose (`init`, `order`, `noise`, …) under a seed.

    Streams of different names are independent, so that drawing more from one never shifts another: runs with the same
    seed share initial weights, batch order and noise, whatever their losses draw.
    """
    import torch  # here, since configuration errors must not wait for it

    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
