"""A comparison: one more MLflow run beside its runs, that holds their table and picture."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import secrets
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from lossbench import origin, terminal, tracking
from lossbench import run as runs
from lossbench.trainee import Stop

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lossbench.analysis.records import Records

_open: list[tracking.Recorder] = []  # that of the comparison that this process is at
RUNNING = "LOSSBENCH_COMPARISON"  # in the environment, so that a launcher's worker processes know it too
OURS = "hydra_plugins.lossbench_plugins.launcher.LossbenchLauncher"


class Comparison(Callback):
    """Hydra's hooks. A launcher other than ours does not say when its jobs were checked, so there it begins at once."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        os.environ.pop(RUNNING, None)
        if config.hydra.launcher._target_ != OURS:
            begin(config, config, config)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        if RUNNING in os.environ:
            conclude(config, "FINISHED")


def begin(sweep: DictConfig, job: DictConfig, cfg: DictConfig) -> tuple[str, bool]:
    """The comparison that runs belong to from now on, and whether some of them may have been trained already.

    One that was interrupted under the same command goes on. `sweep` is what was asked for, `job` as Hydra composed
    its first run, `cfg` the settings of that run, in whose experiment the comparison lies.
    """
    if RUNNING in os.environ:  # a sweeper that launches batch after batch
        return os.environ[RUNNING], True
    HydraConfig.instance().set_config(job)
    experiment = str(cfg.experiment_name)
    store = open_store(cfg)
    asked = [list(sweep.hydra.overrides.task), OmegaConf.to_container(sweep.hydra.sweeper, resolve=False)]
    key = hashlib.sha256(json.dumps([asked, origin.code()], default=str).encode()).hexdigest()[:16]
    same = {"lossbench.kind": "comparison", "lossbench.key": key}
    source = {
        "lossbench.code": origin.code(),
        "lossbench.command": origin.command(),
        "lossbench.process": origin.process(),
    }
    for found in store.find(same):
        tags = found.data.tags
        killed_for_good = found.info.status == "RUNNING" and origin.gone(tags["lossbench.process"])
        if found.info.status in ("KILLED", "FAILED") or killed_for_good:
            os.environ[RUNNING] = tags["lossbench.comparison"]
            store.client.update_run(found.info.run_id, status="RUNNING")
            _open[:] = [tracking.Recorder(store, found.info.run_id)]
            _open[0].tags(source)
            terminal.out().print(f"continuing {os.environ[RUNNING]}, which was interrupted")
            return os.environ[RUNNING], True
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    name = f"{experiment}-{now}-{secrets.token_hex(2)}"
    _open[:] = [store.start(experiment, f"comparison {name}", {**same, "lossbench.comparison": name, **source})]
    os.environ[RUNNING] = name
    return name, False


def conclude(sweep: DictConfig, status: str) -> None:
    """Read the runs back from the store; print and record their table and picture; end the comparison.

    Ctrl-C waits for that.
    """
    with Stop():
        _conclude(sweep, status)


def end_killed() -> None:
    """End a comparison that Ctrl-C kept from its conclusion."""
    if RUNNING in os.environ and _open:
        del os.environ[RUNNING]
        _open.pop().end("KILLED")


def _conclude(sweep: DictConfig, status: str) -> None:
    from lossbench.analysis import records as reading
    from lossbench.analysis import stats, tables

    store, name = open_store(sweep), os.environ.pop(RUNNING)
    (found,) = store.find({"lossbench.kind": "comparison", "lossbench.comparison": name})
    recorder = tracking.Recorder(store, found.info.run_id)
    records = reading.read(store.client, name)
    texts = []
    with recorder.files() as folder:
        records.runs.drop(columns="yardsticks", errors="ignore").to_csv(folder / "runs.csv", index=False)
        for dataset, part in records.by_dataset():
            names = [f"test/{yardstick}" for yardstick, _, _ in part.yardsticks]
            table = stats.summarise(part.runs, names, higher_is_better=part.yardsticks[0][1] == "↑")
            terminal.out().print(terminal.comparison(table, part.yardsticks, f"{dataset}: test, mean ± SD over seeds"))
            table.to_csv(folder / f"table_{dataset}.csv", index=False)
            texts.append(tables.markdown(table, part.yardsticks, dataset))
            if table["n"].any():
                _picture(store, part, dataset).savefig(folder / f"curves_{dataset}.png")
        (folder / "table.md").write_text("\n\n".join(texts), encoding="utf-8")
    recorder.tags({"mlflow.note.content": "\n\n".join(texts)})
    recorder.end(status)
    _say(records, name, store.uri, found.info.run_id)


def _picture(store: tracking.Store, part: Records, dataset: str) -> Figure:
    from lossbench.analysis.plots import comparison_picture
    from lossbench.analysis.records import histories

    primary, arrow, _ = part.yardsticks[0]
    done = part.runs[part.runs["outcome"] == "finished"]
    curves = histories(store.client, done, f"val/{primary}").merge(done[["run_id", "label", "colour"]], on="run_id")
    tests = done.rename(columns={f"test/{primary}": "value"})[["label", "colour", "seed", "value"]]
    title = f"{dataset}: {done['seed'].nunique()} paired seeds"
    return comparison_picture(curves, tests, primary, arrow, title)


def _say(records: Records, name: str, uri: str, run_id: str) -> None:
    console = terminal.out()
    outcomes = records.runs["outcome"].value_counts() if len(records.runs) else {}
    troubled = [f"{count} {outcome}" for outcome, count in outcomes.items() if outcome != "finished"]
    if troubled:
        console.print(f"not in the means: {', '.join(troubled)}")
    if len(records.runs) and records.runs["seed"].nunique() < 2:
        console.print("one seed says nothing about the next one: add 'seed=range(5)'")
    console.print(f"comparison {name}; see it in MLflow: {tracking.ui_command(uri, run_id)}")


def open_store(config: DictConfig) -> tracking.Store:
    """The store that a configuration records to."""
    uri = tracking.resolve(config.tracking.uri)
    tracking.reach(uri)
    return runs.store(uri, config.tracking.artifacts)
