"""Saved views: the runs and columns that MLflow's UI shows when the link of a comparison is opened.

MLflow keeps them as tags of the experiment and documents neither the tag nor its contents: a test opens one in a
browser.
"""

from __future__ import annotations

import base64
import json
import time
import zlib
from collections.abc import Sequence
from urllib.parse import quote

TAG = "mlflow.sharedViewState."


def saved(name: str, metrics: Sequence[tuple[str, str, str]], arm: str = "") -> str:
    """The value of the tag: the runs of a comparison, grouped by loss, with outcome and metrics as columns."""
    only = f" and tags.`lossbench.arm` = '{arm}'" if arm else ""
    now = int(time.time() * 1000)
    columns = [f"metrics.`test/{name}`" for name, _, _ in dict.fromkeys(metrics)]
    state = {
        "searchFilter": f"tags.`lossbench.comparison` = '{name}' and tags.`lossbench.kind` = 'run'{only}",
        "groupBy": {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": "loss"}]},
        "selectedColumns": [*columns, "tags.`lossbench.outcome`", "tags.`seed`"],
        "orderByKey": columns[0],
        "orderByAsc": metrics[0][1] != "↑",
        "runsHiddenMode": "SHOWALL",
        "useGroupedValuesInCharts": False,  # the browser chooses a group's colour; a run has that of its loss
    }
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    return json.dumps({"name": name, "createdAt": now, "updatedAt": now, "state": f"deflate;{packed}"})


def path(experiment: str, key: str) -> str:
    """The path of the view in MLflow's UI, for `page`."""
    return f"experiments/{experiment}/runs?viewStateShareKey={quote(key)}"
