"""The only import of torchvision, which also works where its compiled operators do not match torch.

The registry's torchvision next to a CPU-only torch fails at import: "operator torchvision::nms does not exist".
Its meta kernels need the schemas of `nms` and `qnms` only; declaring them lets datasets, transforms and losses load.
With matching versions the first import succeeds and nothing is declared.
"""

from __future__ import annotations

import sys

import torch

_schemas: torch.library.Library | None = None  # the declarations live as long as this object

try:
    import torchvision
except RuntimeError as error:
    if "torchvision::nms" not in str(error):
        raise
    # a copy: another thread may be importing
    for name in [name for name in list(sys.modules) if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    _schemas = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        _schemas.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision

__all__ = ["torchvision"]
