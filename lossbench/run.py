"""One run, from its configuration to its record."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from json import dumps, loads
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from lossbench import origin, settings, terminal, tracking
from lossbench.core import Result, Splits, Task, Yardstick, stream
from lossbench.settings import Names

if TYPE_CHECKING:
    from lossbench.engine import Fitted

MODEL_FILE = "model.safetensors"


@cache
def store(uri: str, artifacts: str | None) -> tracking.Store:
    """The store at a URI, opened once a process."""
    return tracking.Store(uri, artifacts)


def run(cfg: DictConfig, names: Names, *, comparison: str = "") -> tuple[Result, Sequence[Yardstick]]:
    """Train once and record it. The configuration has passed `settings.check`.

    Raises: BadInput before anything is recorded. Whatever else ends the training early is recorded as FAILED, or
    KILLED after Ctrl-C, with what was evaluated until then.
    """
    uri = tracking.resolve(cfg.tracking.uri)
    tracking.reach(uri)
    with ThreadPoolExecutor(1) as beside:  # opening a store takes as long as loading torch and the data
        opening: Future[tracking.Store] = beside.submit(store, uri, cfg.tracking.artifacts)
        trainee = Trainee(cfg)
        opened = opening.result()
    if comparison and (earlier := _earlier(opened, cfg, comparison)):
        return earlier, trainee.task.yardsticks
    tags = _tags(cfg, names, trainee.splits, trainee.task, comparison)
    recorder = opened.start(cfg.experiment_name, f"{names.loss} seed={cfg.seed}", tags)
    try:
        recorder.params(_params(cfg, names), trainee.splits.facts)
        with recorder.files() as folder:
            OmegaConf.save(_recorded(cfg), folder / "config.yaml", resolve=True)
        result = trainee.train(recorder, label=f"{names.loss} seed={cfg.seed}")
        recorder.tags({"lossbench.outcome": result.outcome, "lossbench.objective": result.objective})
        recorder.end("FINISHED")
    except BaseException as error:
        outcome = "killed" if isinstance(error, KeyboardInterrupt) else "failed"
        recorder.tags({"lossbench.outcome": outcome, "lossbench.error": f"{type(error).__name__}: {error}"[:500]})
        recorder.end(outcome.upper())
        raise
    return result, trainee.task.yardsticks


class Trainee:
    """The objects of one run, and what is done with them in order."""

    def __init__(self, cfg: DictConfig) -> None:
        import torch

        from lossbench import build

        self.cfg = cfg
        self.device = build.device(cfg.device)
        if self.device.type == "cuda":  # on a CPU the operators in use are deterministic; asking loads the compiler
            torch.use_deterministic_algorithms(True, warn_only=True)
        self.splits = build.splits(cfg.dataset, cfg.train.batch_size)
        loss = build.loss(cfg.loss, cfg.dataset.kind)
        self.loss = loss.to(self.device) if isinstance(loss, torch.nn.Module) else loss
        self.task = build.task(cfg.dataset.kind, self.loss, self.splits.facts)
        self.nets = build.nets(cfg.model, self.splits.facts, cfg.seed).to(self.device)
        self.optimizers = build.optimizers(cfg.optimizer, self.nets, self.loss)
        self.plan = build.plan(cfg.train)
        self.train_split = self.splits.train.to(self.device)
        build.probe(self.task, self.nets, self.train_split, cfg.train.batch_size)

    def fit(self, recorder: tracking.Recorder, watch: Callable[[int, Mapping[str, float]], None]) -> Fitted:
        """Train, recording every point; what was evaluated leaves for the store at once."""
        from lossbench.engine import fit

        def record(step: int, values: Mapping[str, float]) -> None:
            recorder.metrics(step, values)
            if any(name.startswith("val/") for name in values):
                recorder.flush()
            watch(step, values)

        return fit(
            self.task,
            self.nets,
            self.optimizers,
            self.train_split,
            self.splits.validation.to(self.device),
            self.plan,
            order=stream(self.cfg.seed, "order"),
            noise=stream(self.cfg.seed, "noise"),
            record=record,
        )

    def train(self, recorder: tracking.Recorder, label: str) -> Result:
        """Fit, then read the test splits once; or say where training diverged."""
        with terminal.bar(label, self.plan.steps) as bar:
            fitted = self.fit(recorder, bar)
        step_ms = 1000 * fitted.train_s / max(1, fitted.steps)
        cost = {"time/train_s": fitted.train_s, "time/step_ms": step_ms, "memory/peak_mb": _peak_mb(self.device.type)}
        recorder.metrics(fitted.steps, cost)
        end = (recorder.run_id, fitted.steps, fitted.best_step, self.task.yardsticks[0])
        if fitted.diverged is not None:
            last = {f"lossbench.last.{name}": value for name, value in fitted.last.items()}
            recorder.tags({"lossbench.diverged_step": fitted.diverged, **last})
            return Result("diverged", *end, {"last": fitted.last}, fitted.train_s)
        return Result("finished", *end, self._report(recorder, fitted), fitted.train_s)

    def _report(self, recorder: tracking.Recorder, fitted: Fitted) -> dict[str, dict[str, float]]:
        """Yardsticks on every test split at the selected step and at the last, pictures, weights."""
        assert fitted.best is not None
        assert fitted.best_step is not None
        _, last, _ = self._measure({"test_last": self.splits.test})
        self.nets.load_state_dict(fitted.best)
        tests = {"val": self.splits.validation, "test": self.splits.test, **self.splits.more}
        outputs, values, tuned = self._measure(tests)
        at_end = {f"test_last/{name}": value for name, value in last["test_last"].items()}
        fitted_on_val = {f"val/{name}": value for name, value in tuned.items()}
        selected = {f"{s}/{n}": v for s, named in values.items() if s != "val" for n, v in named.items()}
        recorder.metrics(fitted.steps, at_end)
        recorder.metrics(fitted.best_step, {**selected, **fitted_on_val})
        recorder.tags({"lossbench.best_step": fitted.best_step})
        self._files(recorder, outputs, tuned)
        return {**values, **last}

    def _measure(
        self, splits: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, dict[str, float]], dict[str, float]]:
        """Outputs, yardsticks, and what was tuned on validation, with the weights that the nets hold now."""
        from lossbench.engine import predict

        def outputs(split: Any) -> Any:
            return predict(lambda x: self.task.predict(self.nets, x.to(self.device)), split.inputs).cpu()

        validation = outputs(self.splits.validation)
        tuned = self.task.tune(validation, self.splits.validation.targets)
        found = {name: validation if name == "val" else outputs(split) for name, split in splits.items()}
        values = {name: self.task.report(found[name], split.targets, tuned) for name, split in splits.items()}
        return found, values, tuned

    def _files(self, recorder: tracking.Recorder, outputs: Mapping[str, Any], tuned: Mapping[str, float]) -> None:
        from safetensors.torch import save_file

        with recorder.files() as folder:
            save_file({k: v.contiguous().cpu() for k, v in self.nets.state_dict().items()}, folder / MODEL_FILE)
            (folder / "pictures").mkdir()
            for name, figure in self.task.pictures(outputs, self.splits, tuned).items():
                figure.savefig(folder / "pictures" / f"{name}.png")


def _tags(cfg: DictConfig, names: Names, splits: Splits, task: Task, comparison: str) -> dict[str, str]:
    return {
        "lossbench.kind": "run",
        **({"lossbench.comparison": comparison} if comparison else {}),
        "lossbench.key": settings.key(cfg),
        "lossbench.data": splits.facts.fingerprint,
        "lossbench.code": origin.code(),
        "lossbench.command": origin.command(),
        "lossbench.yardsticks": dumps([[y.name, y.arrow, y.unit] for y in task.yardsticks]),
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


def _earlier(opened: tracking.Store, cfg: DictConfig, comparison: str) -> Result | None:
    """The run of this configuration that an interrupted call of the same comparison has already finished.

    One that it left unfinished no longer counts as a run of the comparison: this call trains it again.
    """
    for found in opened.find({"lossbench.comparison": comparison, "lossbench.key": settings.key(cfg)}):
        tags = found.data.tags
        if tags.get("lossbench.kind") != "run":
            continue
        if found.info.status == "FINISHED":
            name, arrow, unit = next(iter(_yardsticks(tags)))
            value = float(tags.get("lossbench.objective", "nan"))
            primary = Yardstick(name, "", arrow == "↑", unit)
            outcome = tags.get("lossbench.outcome", "finished")
            return Result(outcome, found.info.run_id, 0, None, primary, {"val": {name: value}}, 0.0)
        opened.client.set_tag(found.info.run_id, "lossbench.kind", "superseded")
    return None


def _yardsticks(tags: Mapping[str, str]) -> list[tuple[str, str, str]]:
    return [tuple(entry) for entry in loads(tags["lossbench.yardsticks"])]


def _peak_mb(device: str) -> float:
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated() / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss is in bytes there, in KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
