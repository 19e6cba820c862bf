"""Write lossbench/config/catalogue.json: what our losses, models, datasets and tasks say of themselves when they run.

Run it after changing a signature, a docstring or a card: `python scripts/index.py`. `list`, help and configuration
errors read the file, so that they need not wait for torch.
"""

from __future__ import annotations

import json
import re

from lossbench.config import catalogue, schema, task_types


def text() -> str:
    """The file as it would be written now: every `_target_` of our configurations, and the tasks."""
    files = "\n".join(path.read_text(encoding="utf-8") for path in schema.CONFIGS.rglob("*.yaml"))
    named = re.findall(r"_target_: (lossbench\.(?:losses|models|datasets)\.\S+)", files)
    return json.dumps(catalogue.index({*named, *task_types.TASKS.values()}), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    catalogue.INDEX.write_text(text(), encoding="utf-8")
    print(f"wrote {catalogue.INDEX}")
