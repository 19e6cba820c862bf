"""One run, from its configuration to its record."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lossbench import origin, settings, tracking
from lossbench.core import Result, Yardstick, cache_folder
from lossbench.settings import Names
from lossbench.trainee import Trainee


@cache
def store(uri: str, artifacts: str | None) -> tracking.Store:
    """The store at a URI, opened once a process."""
    return tracking.Store(uri, artifacts)


def run(cfg: DictConfig, names: Names, *, comparison: str = "") -> tuple[Result, Sequence[Yardstick]]:
    """Train once and record it. The configuration has passed `settings.check`.

    A run that was stopped under the same configuration, code and comparison goes on where it was; one that its
    comparison has finished already is read back.

    Raises: BadInput before anything is recorded. Whatever else ends the training early is recorded as FAILED, or
    KILLED after Ctrl-C, with what was evaluated until then.
    """
    from lossbench.engine import checkpoints

    uri = tracking.resolve(cfg.tracking.uri)
    tracking.reach(uri)
    kept = _checkpoint(cfg, uri, comparison)
    if comparison and (earlier := _earlier(store(uri, cfg.tracking.artifacts), cfg, comparison, keep=kept.exists())):
        return earlier, (earlier.primary,)
    with ThreadPoolExecutor(1) as beside:  # opening a store takes as long as loading torch and the data
        opening: Future[tracking.Store] = beside.submit(store, uri, cfg.tracking.artifacts)
        trainee = Trainee(cfg)
        opened = opening.result()
    label = f"{names.loss} seed={cfg.seed}"
    state = checkpoints.take(kept)
    same_data = state is not None and state["data"] == trainee.splits.facts.fingerprint
    recorder = opened.resume(state["run_id"]) if state and same_data else None
    if recorder is None:
        state = None
        recorder = opened.start(cfg.experiment_name, label, _tags(cfg, names, trainee, comparison))
    try:
        if state is None:
            recorder.params(_params(cfg, names), trainee.splits.facts)
            with recorder.files() as folder:
                OmegaConf.save(_recorded(cfg), folder / "config.yaml", resolve=True)
        result = trainee.train(recorder, label, state)
        recorder.tags({"lossbench.outcome": result.outcome, "lossbench.objective": result.objective})
        recorder.end("FINISHED")
    except BaseException as error:
        outcome = "killed" if isinstance(error, KeyboardInterrupt) else "failed"
        recorder.tags({"lossbench.outcome": outcome, "lossbench.error": f"{type(error).__name__}: {error}"[:500]})
        recorder.end(outcome.upper())
        if isinstance(error, checkpoints.Interrupted) and trainee.resumable:
            data = trainee.splits.facts.fingerprint
            checkpoints.save(kept, {**error.state, "run_id": recorder.run_id, "data": data})
        raise
    return result, trainee.task.yardsticks


def _checkpoint(cfg: DictConfig, uri: str, comparison: str) -> Path:
    """Where this run is kept when it is stopped: under all that decides its numbers and its record."""
    identity = json.dumps([settings.key(cfg), cfg.experiment_name, origin.code(), uri, comparison])
    return cache_folder() / "checkpoints" / f"{hashlib.sha256(identity.encode()).hexdigest()[:20]}.pt"


def _tags(cfg: DictConfig, names: Names, trainee: Trainee, comparison: str) -> dict[str, str]:
    return {
        "lossbench.kind": "run",
        **({"lossbench.comparison": comparison} if comparison else {}),
        "lossbench.key": settings.key(cfg),
        "lossbench.data": trainee.splits.facts.fingerprint,
        "lossbench.code": origin.code(),
        "lossbench.command": origin.command(),
        "lossbench.yardsticks": json.dumps([[y.name, y.arrow, y.unit] for y in trainee.task.yardsticks]),
        "mlflow.runColor": origin.colour(names.loss),
        "mlflow.source.name": "lossbench",
        "loss": names.loss,
        "dataset": names.dataset,
        "model": names.model,
        "seed": str(cfg.seed),
    }


def _recorded(cfg: DictConfig) -> DictConfig:
    """The configuration as it may be kept: without the password of the store."""
    return OmegaConf.merge(cfg, {"tracking": {"uri": tracking.shown(cfg.tracking.uri)}})  # type: ignore[return-value]


def _params(cfg: DictConfig, names: Names) -> dict[str, Any]:
    named = {"loss": names.loss, "dataset": names.dataset, "model": names.model, "optimizer": names.optimizer}
    return named | settings.flat(_recorded(cfg))


def _earlier(opened: tracking.Store, cfg: DictConfig, comparison: str, *, keep: bool) -> Result | None:
    """The run of this configuration that an interrupted call of the same comparison has already finished.

    One that it left unfinished no longer counts as a run of the comparison, unless this call goes on with it: `keep`.
    """
    for found in opened.find({"lossbench.comparison": comparison, "lossbench.key": settings.key(cfg)}):
        tags = found.data.tags
        if tags.get("lossbench.kind") != "run":
            continue
        if found.info.status == "FINISHED":
            name, arrow, unit = json.loads(tags["lossbench.yardsticks"])[0]
            value = float(tags.get("lossbench.objective", "nan"))
            primary = Yardstick(name, "", arrow == "↑", unit)
            outcome = tags.get("lossbench.outcome", "finished")
            return Result(outcome, found.info.run_id, 0, None, primary, {"val": {name: value}}, 0.0)
        if not keep:
            opened.client.set_tag(found.info.run_id, "lossbench.kind", "superseded")
            if found.info.status == "RUNNING":  # its process was killed before it could say so
                opened.client.set_terminated(found.info.run_id, "KILLED")
    return None
