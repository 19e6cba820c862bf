"""Evaluation of a trained run, and the recording of what it finds."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from lossbench import tracking
from lossbench.core import Outputs, Result, Split, TrainedModel, each_tensor, weight_argument
from lossbench.core.failures import one_line
from lossbench.runs import memory
from lossbench.runs.experiment import Experiment
from lossbench.runs.signals import interruptible

if TYPE_CHECKING:
    from lossbench.engine import FitResult

ROUNDING = 1e-6  # by which a metric may leave its range
REMARK = 500  # characters of a remark, at most
LAST = "test_last"  # the test split at the last step; `test` is at the selected one


class Evaluation:
    """Measures a trained experiment, and records metrics and, as `tracking.artifacts` says, weights and pictures."""

    def __init__(self, experiment: Experiment, recorder: tracking.Recorder, *, peak: bool = False) -> None:
        """`peak`: record the peak of this process's memory, which is that of this run alone."""
        self.experiment, self.recorder, self.peak = experiment, recorder, peak
        self.task, self.nets, self.splits = experiment.task, experiment.nets, experiment.splits
        self._leaves = experiment.cfg.tracking.artifacts or "all"
        self._remarks: list[str] = []

    def finish(self, fitted: FitResult, folders: tuple[Path, ...] | None = ()) -> Result:
        """Evaluate the test splits once, also under every loss in these folders that fits; returns the result.

        With None for folders no test split is read, and the result has the value on validation alone. For a run that
        diverged, the last finite values are recorded.
        """
        self.nets.eval()  # training is over
        step_ms = 1000 * fitted.train_s / max(1, fitted.steps)
        resources = {"time/train_s": fitted.train_s, "time/step_ms": step_ms}
        if self.peak:
            resources["memory/peak_mb"] = memory.peak_mb(self.experiment.device.type)
        self.recorder.metrics(fitted.steps, resources)
        end = (self.recorder.run_id, fitted.diverged or fitted.steps, fitted.best_step, self.task.metrics[0])
        if fitted.diverged is not None:
            last = {f"lossbench.last.{name}": value for name, value in fitted.last.items()}
            self.recorder.tags({"lossbench.diverged_step": fitted.diverged, **last})
            return Result("diverged", *end, {"last": fitted.last}, fitted.train_s)
        if folders is None:
            return Result("finished", *end, {"val": {self.task.metrics[0].name: fitted.best_value}}, fitted.train_s)
        values = self._report(fitted, folders)
        tests = values["test"]
        collapsed = any(y.collapse is not None and tests.get(y.name, math.inf) <= y.collapse for y in self.task.metrics)
        return Result("collapsed" if collapsed else "finished", *end, values, fitted.train_s)

    def _report(self, fitted: FitResult, folders: tuple[Path, ...]) -> dict[str, dict[str, float]]:
        """Record the weights, the metrics on every test split at the selected step and at the last, then pictures.

        In this order, so that a failure costs nothing that came before it.
        """
        from lossbench.runs import cross_loss, saved_model

        assert fitted.best is not None
        assert fitted.best_step is not None
        if self._leaves != "none":
            with self.recorder.files() as folder:
                saved_model.save_weights(fitted.best, self.splits.encoding, folder)
        _, last, _ = self._measure({LAST: self.splits.test})
        self.nets.restore(fitted.best)
        tests = {"val": self.splits.validation, "test": self.splits.test, **self.splits.extra_tests}
        outputs, values, calibration = self._measure(tests)
        at_end = {f"{LAST}/{name}": value for name, value in last[LAST].items()}
        fitted_on_val = {f"val/{name}": value for name, value in calibration.items()}
        selected = {f"{s}/{n}": v for s, named in values.items() if s != "val" for n, v in named.items()}
        self.recorder.metrics(fitted.steps, at_end)
        if self._leaves != "none":
            with self.recorder.files() as folder:
                saved_model.save_structure(self.splits.info, self.experiment.outputs_per_target, calibration, folder)
        if self.experiment.cfg.tracking.model:
            self._pyfunc(fitted.best, calibration)
        test = self.splits.test
        mean_losses = cross_loss.mean_losses(folders, self.splits.info, outputs["test"], test.targets, test.weights)
        under = {f"test_loss/{name}": value for name, value in mean_losses.items()}
        self.recorder.metrics(fitted.best_step, {**selected, **fitted_on_val, **under})
        features = {"lossbench.features": self.experiment.features.hash} if self.experiment.features.used else {}
        self.recorder.tags({"lossbench.best_step": fitted.best_step, **features})
        if self.experiment.sampling.variation == "fixed":
            self._examples(outputs["test"], calibration)
        if self._leaves == "all":
            self._pictures(TrainedModel(self.nets, outputs, self.splits, calibration, fitted.glimpses))
        self._remarks += self._unsound(values["test"], fitted)
        if self._remarks:
            self.recorder.tags({"lossbench.remarks": json.dumps(self._remarks)})
        return {**values, **last}

    def _unsound(self, values: Mapping[str, float], fitted: FitResult) -> Iterator[str]:
        """What is wrong with metrics that somebody else wrote."""
        primary = self.task.metrics[0].name
        if math.isnan(fitted.best_value):
            yield f"no step was selected, and the last one taken: {primary} gives no number on validation"
        for metric in self.task.metrics:
            low, high = metric.range
            if metric.name not in values:
                yield f"{metric.name} gives no number on the test split"
            elif not low - ROUNDING <= values[metric.name] <= high + ROUNDING:
                yield f"{metric.name} is {values[metric.name]:g} on the test split, beyond its range {low:g} … {high:g}"

    def _examples(self, outputs: Outputs, calibration: Mapping[str, float]) -> None:
        """Record how the metrics vary with the test examples, and the predictions, unless that is switched off."""
        from lossbench.runs import predictions

        test, task_type = self.splits.test, self.splits.info.task_type
        values = self._try(
            "how the metrics vary with the test examples could not be measured",
            lambda: predictions.left_out(self.task, outputs, test, predictions.parts(test, task_type), calibration),
        )
        if values:
            self.recorder.tags({"lossbench.left_out": values})
        if self._leaves != "all" or not self.experiment.cfg.tracking.predictions:
            return
        content = self._try("the predictions could not be saved", lambda: predictions.packed(outputs, test))
        if content:
            with self.recorder.files() as folder:
                (folder / predictions.FILE).write_bytes(content)
        elif content is not None:
            self._remarks.append(f"its predictions take more than {predictions.LARGEST / 1e6:.0f} MB and are not saved")

    def _measure(
        self, splits: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, dict[str, float]], dict[str, float]]:
        """Outputs and metrics of these splits, and the calibration on validation, with the current weights."""
        from lossbench.engine.predict import PURPOSE, predict
        from lossbench.engine.randomness import seeded

        seed = self.experiment.cfg.seed

        def outputs(split: Split, *, closely: bool) -> Outputs:
            on_device = predict(self.task, self.nets, split, seed, closely=closely)
            return each_tensor(on_device, lambda tensor: tensor.cpu())

        validation = outputs(self.splits.validation, closely=False)
        found = {n: validation if n == "val" else outputs(split, closely=n != LAST) for n, split in splits.items()}
        with seeded(seed, PURPOSE):  # a metric of somebody's own may draw from the global streams
            held = self.splits.validation
            calibration = self.task.calibrate(validation, held.targets, **weight_argument(held.weights))
            values = {
                name: self.task.report(found[name], split.targets, calibration, **weight_argument(split.weights))
                for name, split in splits.items()
            }
        return found, values, calibration

    def _pyfunc(self, best: Mapping[str, Any], calibration: Mapping[str, float]) -> None:
        """Record the model for MLflow; one that MLflow does not take leaves a remark."""
        from lossbench.runs import pyfunc, saved_model

        with tempfile.TemporaryDirectory() as name, self.recorder.files() as folder:
            files = Path(name)
            saved_model.save_weights(best, self.splits.encoding, files)
            saved_model.save_structure(self.splits.info, self.experiment.outputs_per_target, calibration, files)
            OmegaConf.save(self.experiment.cfg, files / saved_model.CONFIGURATION)
            self._try("the model could not be saved for MLflow", lambda: pyfunc.save(files, folder / pyfunc.FOLDER))

    def _pictures(self, trained: TrainedModel) -> None:
        """Draw and record each picture on its own; one that fails leaves a remark."""
        import matplotlib
        import torch

        with self.recorder.files() as folder, torch.inference_mode():
            (folder / "pictures").mkdir()
            with matplotlib.rc_context({"text.parse_math": False}):  # a class may be called $a
                drawn = self._try("the pictures could not be drawn", lambda: self.task.pictures(trained)) or {}
                for name in drawn:
                    self._try(
                        f"the picture {name} could not be drawn", partial(_draw, drawn, name, folder / "pictures")
                    )

    def _try(self, what: str, call: Callable[[], Any]) -> Any:
        """The result of a call; None, and a remark, where it fails."""
        try:
            with interruptible():
                return call()
        except Exception as error:  # a foreign figure or metric may raise anything
            self._remarks.append(f"{what}: {one_line(error)}"[:REMARK])
            return None


def _draw(drawn: Mapping[str, Any], name: str, folder: Path) -> None:
    path = folder / f"{name}.png"
    try:
        drawn[name].savefig(path)
    except Exception:
        path.unlink(missing_ok=True)  # it may be incomplete
        raise
