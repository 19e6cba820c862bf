"""What one run trains: its objects, made from the configuration, and what is done with them in order."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from lossbench import tracking
from lossbench.config import catalogue
from lossbench.core import Outputs, Result, Sampling, Split, Splits, TrainedModel
from lossbench.core.failures import said

if TYPE_CHECKING:
    import torch

    from lossbench.engine import FitResult, Replica

MODEL_FILE = "model.safetensors"
REMARK = 500  # characters of a remark
LAST = "test_last"  # the test split at the last step, beside that at the selected one


class Experiment:
    """The objects of one run, and how they are measured once they have been trained."""

    def __init__(self, cfg: DictConfig, splits: Splits | None = None, *, same_data: bool = False) -> None:
        """`splits` are the dataset, where it has been made already; `same_data`: every seed has these.

        Raises: ConfigError for what cannot train.
        """
        from lossbench.engine.randomness import seeded
        from lossbench.runs import builders

        self.cfg = cfg
        self.splits = splits or builders.splits(cfg.dataset)
        self.sampling = _sampling(self.splits, same_data)
        self._peak = False
        self._remarks: list[str] = []
        with seeded(cfg.seed, "building"):  # whatever is asked once, none of it is drawn from what comes later
            self._build()

    def _build(self) -> None:
        import torch

        from lossbench.runs import builders, sanity_checks
        from lossbench.runs.features import Features
        from lossbench.tasks.adapting import adapted

        cfg, info = self.cfg, self.splits.info
        self.device = builders.device(cfg.device)
        if self.device.type == "cuda":  # on a CPU the operators in use are deterministic; asking loads the compiler
            torch.use_deterministic_algorithms(True, warn_only=True)
        size, per_class = cfg.train.batch_size, cfg.train.per_class
        builders.check_batch(size, per_class, self.splits)
        outputs_per_target = catalogue.outputs_per_target(cfg.loss._target_)
        self.nets = builders.nets(cfg.model, info, cfg.seed, outputs_per_target).to(self.device)
        sanity_checks.model(self.nets, info, self.splits.train, self.device, cfg.model._target_, outputs_per_target)
        made = builders.loss_of_run(cfg.loss, info, self.nets, cfg.seed)
        outputs = builders.dimensions(self.nets, info) if info.task_type == "embedding" else info.outputs
        called = adapted(made, info.task_type, info.targets, outputs)
        loss, self.adapted = called.loss, str(called)
        self.learning = builders.module_of(loss)
        if self.learning is not None:
            self.learning.to(self.device)
        self.features = Features(self.splits, self.device)
        settings: Any = OmegaConf.to_container(cfg.task, resolve=True)
        self.task = builders.task(cfg.dataset.task_type, loss, info, settings, self.features)
        self.optimizers = builders.optimizers(cfg.optimizer, self.nets, self.learning)
        if self.learning is not None:  # kept, selected and resumed with the players, though nobody moves it alone
            self.nets.add_module("loss", self.learning)
        self.plan = builders.plan(cfg.train)
        sanity_checks.loss(self.task, self.nets, self.splits.train, self.device, size, per_class)

    @property
    def stackable(self) -> bool:
        """Whether others may train beside it: not with a loss that keeps something from step to step."""
        return self.learning is None

    def replica(self, record: Callable[[int, Mapping[str, float]], None]) -> Replica:
        """This run as the engine trains it."""
        from lossbench.engine import Replica

        train, validation = (on_device(split, self.device) for split in (self.splits.train, self.splits.validation))
        return Replica(self.task, self.nets, self.optimizers, train, validation, self.cfg.seed, record)

    @property
    def loss_parameters(self) -> int:
        """How many numbers the loss itself learns."""
        return sum(p.numel() for p in self.learning.parameters()) if self.learning is not None else 0

    def probe(self) -> str:
        """How the loss pulls on a fixed batch, for a report to find two that are one. See `crosswise.probe`."""
        from lossbench.engine import predict
        from lossbench.runs import cross_loss

        train = self.splits.train
        outputs = predict(self.task, self.nets, next(train.chunks(1)), 0)
        prediction = cross_loss.prediction(outputs)
        return "" if prediction is None else cross_loss.probe(self.task, prediction.shape[1:], train, self.device)

    def watch_memory(self) -> None:
        """From here on the peak of memory is this run's own: nothing else trains in this process."""
        self._peak = _reset_peak(self.device.type)

    def finish(self, recorder: tracking.Recorder, fitted: FitResult, folders: tuple[Path, ...] | None = ()) -> Result:
        """Read the test splits once, also under every loss in these folders that fits; or say where it diverged.

        Without folders no test split is read: what validation said is all.
        """
        self.nets.eval()  # nobody trains them any more
        step_ms = 1000 * fitted.train_s / max(1, fitted.steps)
        cost = {"time/train_s": fitted.train_s, "time/step_ms": step_ms}
        if self._peak:
            cost["memory/peak_mb"] = _peak_mb(self.device.type)
        recorder.metrics(fitted.steps, cost)
        end = (recorder.run_id, fitted.diverged or fitted.steps, fitted.best_step, self.task.metrics[0])
        if fitted.diverged is not None:
            last = {f"lossbench.last.{name}": value for name, value in fitted.last.items()}
            recorder.tags({"lossbench.diverged_step": fitted.diverged, **last})
            return Result("diverged", *end, {"last": fitted.last}, fitted.train_s)
        if folders is None:
            return Result("finished", *end, {"val": {self.task.metrics[0].name: fitted.best_value}}, fitted.train_s)
        values = self._report(recorder, fitted, folders)
        tests = values["test"]
        stuck = any(y.collapse is not None and tests[y.name] <= y.collapse for y in self.task.metrics)
        return Result("collapsed" if stuck else "finished", *end, values, fitted.train_s)

    def _report(
        self, recorder: tracking.Recorder, fitted: FitResult, folders: tuple[Path, ...]
    ) -> dict[str, dict[str, float]]:
        """The weights, then the metrics on every test split at the selected step and at the last, then pictures.

        In this order, so that whatever fails costs nothing that came before it.
        """
        from lossbench.runs import cross_loss

        assert fitted.best is not None
        assert fitted.best_step is not None
        self._weights(recorder, fitted.best)
        _, last, _ = self._measure({LAST: self.splits.test})
        self.nets.restore(fitted.best)
        tests = {"val": self.splits.validation, "test": self.splits.test, **self.splits.extra_tests}
        outputs, values, calibration = self._measure(tests)
        at_end = {f"{LAST}/{name}": value for name, value in last[LAST].items()}
        fitted_on_val = {f"val/{name}": value for name, value in calibration.items()}
        selected = {f"{s}/{n}": v for s, named in values.items() if s != "val" for n, v in named.items()}
        recorder.metrics(fitted.steps, at_end)
        mean_losses = cross_loss.mean_losses(folders, self.splits.info, outputs["test"], self.splits.test.targets)
        under = {f"test_loss/{name}": value for name, value in mean_losses.items()}
        recorder.metrics(fitted.best_step, {**selected, **fitted_on_val, **under})
        seen_by = {"lossbench.features": self.features.hash} if self.features.used else {}
        recorder.tags({"lossbench.best_step": fitted.best_step, **seen_by})
        if self.sampling.variation == "fixed":
            self._examples(recorder, outputs["test"])
        self._pictures(recorder, TrainedModel(self.nets, outputs, self.splits, calibration, fitted.glimpses))
        if self._remarks:
            recorder.tags({"lossbench.remarks": json.dumps(self._remarks)})
        return {**values, **last}

    def _examples(self, recorder: tracking.Recorder, outputs: Outputs) -> None:
        """How the metrics vary with the test split's examples, and unless switched off, the predictions of each."""
        from lossbench.runs import predictions

        test, task_type = self.splits.test, self.splits.info.task_type
        values = self._tried(
            "how the metrics vary with the test examples could not be measured",
            lambda: predictions.left_out(self.task, outputs, test.targets, predictions.parts(test, task_type)),
        )
        if values:
            recorder.tags({"lossbench.left_out": values})
        if not self.cfg.tracking.predictions:
            return
        content = self._tried("the predictions could not be kept", lambda: predictions.packed(outputs, test))
        if content:
            with recorder.files() as folder:
                (folder / predictions.FILE).write_bytes(content)
        elif content is not None:
            self._remarks.append(f"its predictions take more than {predictions.LARGEST / 1e6:.0f} MB and are not kept")

    def _measure(
        self, splits: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, dict[str, float]], dict[str, float]]:
        """Outputs, metrics, and what was tuned on validation, with the weights that the nets hold now."""
        from lossbench.engine.predict import each, predict

        def outputs(split: Split, *, closely: bool) -> Outputs:
            given = predict(self.task, self.nets, split, self.cfg.seed, closely=closely)
            return each(given, lambda tensor: tensor.cpu())

        validation = outputs(self.splits.validation, closely=False)
        calibration = self.task.calibrate(validation, self.splits.validation.targets)
        found = {n: validation if n == "val" else outputs(split, closely=n != LAST) for n, split in splits.items()}
        values = {name: self.task.report(found[name], split.targets, calibration) for name, split in splits.items()}
        return found, values, calibration

    def _weights(self, recorder: tracking.Recorder, best: Mapping[str, Any]) -> None:
        from safetensors.torch import save_file

        with recorder.files() as folder:
            save_file({name: tensor.cpu().clone() for name, tensor in best.items()}, folder / MODEL_FILE)

    def _pictures(self, recorder: tracking.Recorder, seen: TrainedModel) -> None:
        """Each picture on its own; of one that cannot be drawn a remark is left."""
        import matplotlib
        import torch

        with recorder.files() as folder, torch.inference_mode():
            (folder / "pictures").mkdir()
            with matplotlib.rc_context({"text.parse_math": False}):  # a class may be called $a
                drawn = self._tried("the pictures could not be drawn", lambda: self.task.pictures(seen)) or {}
                for name in drawn:
                    self._tried(
                        f"the picture {name} could not be drawn", partial(_draw, drawn, name, folder / "pictures")
                    )

    def _tried(self, what: str, call: Callable[[], Any]) -> Any:
        """What the call gives; None, and a remark, where it fails."""
        try:
            return call()
        except Exception as error:  # whatever a foreign figure or metric does
            self._remarks.append(f"{what}: {said(error)}"[:REMARK])
            return None


def _sampling(splits: Splits, same_data: bool) -> Sampling:
    """What seeds change of the examples. Of a dataset that does not say, each seed is taken to split one pool anew."""
    told = splits.info.sampling
    if same_data:
        told = replace(told, variation="fixed", candidates=0)
    if not told.train:  # facts that nothing assembled; else no test split is looked at before its time
        train, validation, test = (len(split) for split in (splits.train, splits.validation, splits.test))
        told = replace(told, train=train, validation=validation, test=test)
    whole = told.train + told.validation + told.test
    return replace(told, variation=told.variation or "resplit", candidates=told.candidates or whole)


def _draw(drawn: Mapping[str, Any], name: str, folder: Path) -> None:
    path = folder / f"{name}.png"
    try:
        drawn[name].savefig(path)
    except Exception:
        path.unlink(missing_ok=True)  # half a picture is none
        raise


_on_devices: weakref.WeakValueDictionary[tuple[int, str], Split] = weakref.WeakValueDictionary()


def on_device(split: Split, device: torch.device) -> Split:
    """The split on a device, one copy of it for all the runs that share it."""
    if split.inputs.device == device:
        return split
    key = (id(split), str(device))  # not by its memory: two splits may share their inputs
    moved = _on_devices.get(key)
    if moved is None:
        moved = _on_devices[key] = split.to(device)
        weakref.finalize(split, _on_devices.pop, key, None)  # before its id may be another's
    return moved


def _reset_peak(device: str) -> bool:
    """Start the peak of memory anew; False where this system cannot, so that the peak would not be one run's."""
    if device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
        return True
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # Linux: VmHWM is what is resident now
    except OSError:
        return False
    return True


def _peak_mb(device: str) -> float:
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated() / 2**20
    told = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines())
    return float(told["VmHWM"].split()[0]) / 2**10  # from KiB
