"""Pictures that runs recorded in MLflow, side by side."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from lossbench.analysis import answer
from lossbench.analysis.verdict import Verdict

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from PIL import Image

PICTURED = 12  # losses whose pictures stand side by side
WIDTHS = (560, 400, 280)  # pixels of a picture: the first at which all of them fit; the last is the width on the page
PICTURES_MB = 3.0
WIDE = 1.3  # ratio of width to height above which a picture takes half of the page's width, not a quarter


def pictures(verdict: Verdict, client: MlflowClient) -> dict[str, Any]:
    """The pictures of every loss at one seed, small enough for a page: the first seed with the most finished runs."""
    done = verdict.runs[verdict.runs["outcome"] == "finished"]
    if done.empty:
        return {}
    seeds = verdict.values.notna().sum(axis=1)
    seed = str(seeds.idxmax()) if len(seeds) else done["seed"].iloc[0]
    losses = [loss for loss in answer.by_mean(verdict) if loss in set(done["contender"])][:PICTURED]
    drawn = done[done["seed"] == seed].drop_duplicates("contender").set_index("contender")["run_id"]
    recorded = {loss: dict(_recorded(client, drawn[loss])) for loss in losses if loss in drawn}
    wide = {n for images in recorded.values() for n, image in images.items() if image.width > WIDE * image.height}
    for width in WIDTHS:
        found: dict[str, list[tuple[str, str]]] = {}
        for loss, images in recorded.items():
            for name, image in images.items():
                found.setdefault(name, []).append((loss, _small(image, width)))
        if sum(len(picture) for beside in found.values() for _, picture in beside) <= PICTURES_MB * 2**20:
            break
    by_name: dict[str, list[tuple[str, str]]] = {}
    left = PICTURES_MB * 2**20
    for name, beside in found.items():  # whole rows, so that every loss has each picture that is shown
        left -= sum(len(picture) for _, picture in beside)
        if left >= 0 or not by_name:
            by_name[name] = beside
    cut = len(by_name) < len(found) or len(verdict.chosen) > PICTURED
    return {"seed": seed, "by_name": by_name, "cut": cut, "wide": wide}


def _recorded(client: MlflowClient, run_id: str) -> Iterator[tuple[str, Image.Image]]:
    """The pictures of a run, by name."""
    from PIL import Image

    names = [entry.path for entry in client.list_artifacts(run_id, "pictures") if entry.path.endswith(".png")]
    with TemporaryDirectory() as folder:
        for path in names:
            with Image.open(client.download_artifacts(run_id, path, folder)) as picture:
                yield Path(path).stem, picture.convert("RGB")


def _small(picture: Image.Image, width: int) -> str:
    """A picture as a data URI, scaled down to this width and with a palette of 128 colours."""
    from PIL import Image

    smaller, buffer = picture.copy(), io.BytesIO()
    smaller.thumbnail((width, 4 * width))
    smaller.quantize(128, Image.Quantize.MAXCOVERAGE).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
