"""The commands other than training, by name."""

from __future__ import annotations

from typing import Any

from lossbench.cli.check import check
from lossbench.cli.compare import compare
from lossbench.cli.detached import cancel, status, submit
from lossbench.cli.listing import list_losses
from lossbench.cli.predict import predict
from lossbench.cli.report import report
from lossbench.cli.ui import ui
from lossbench.cli.verify import verify

COMMANDS: dict[str, Any] = {
    "cancel": cancel,
    "check": check,
    "compare": compare,
    "list": list_losses,
    "predict": predict,
    "report": report,
    "status": status,
    "submit": submit,
    "ui": ui,
    "verify": verify,
}
