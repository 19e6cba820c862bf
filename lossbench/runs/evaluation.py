"""How a trained run is measured, and what its record keeps of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossbench import tracking
from lossbench.core import Outputs, Result, Split, TrainedModel
from lossbench.core.failures import one_line
from lossbench.runs import memory
from lossbench.runs.experiment import Experiment

if TYPE_CHECKING:
    from lossbench.engine import FitResult

MODEL_FILE = "model.safetensors"
REMARK = 500  # characters of a remark
LAST = "test_last"  # the test split at the last step, beside that at the selected one


class Evaluation:
    """Measures an experiment once it has been trained, and records weights, metrics, predictions and pictures."""

    def __init__(self, experiment: Experiment, recorder: tracking.Recorder, *, peak: bool = False) -> None:
        """`peak`: the peak of this process's memory is this run's own, and is recorded."""
        self.experiment, self.recorder, self.peak = experiment, recorder, peak
        self.task, self.nets, self.splits = experiment.task, experiment.nets, experiment.splits
        self._remarks: list[str] = []

    def finish(self, fitted: FitResult, folders: tuple[Path, ...] | None = ()) -> Result:
        """Read the test splits once, also under every loss in these folders that fits; or say where it diverged.

        Without folders no test split is read: what validation said is all.
        """
        self.nets.eval()  # nobody trains them any more
        step_ms = 1000 * fitted.train_s / max(1, fitted.steps)
        spent = {"time/train_s": fitted.train_s, "time/step_ms": step_ms}
        if self.peak:
            spent["memory/peak_mb"] = memory.peak_mb(self.experiment.device.type)
        self.recorder.metrics(fitted.steps, spent)
        end = (self.recorder.run_id, fitted.diverged or fitted.steps, fitted.best_step, self.task.metrics[0])
        if fitted.diverged is not None:
            last = {f"lossbench.last.{name}": value for name, value in fitted.last.items()}
            self.recorder.tags({"lossbench.diverged_step": fitted.diverged, **last})
            return Result("diverged", *end, {"last": fitted.last}, fitted.train_s)
        if folders is None:
            return Result("finished", *end, {"val": {self.task.metrics[0].name: fitted.best_value}}, fitted.train_s)
        values = self._report(fitted, folders)
        tests = values["test"]
        stuck = any(y.collapse is not None and tests[y.name] <= y.collapse for y in self.task.metrics)
        return Result("collapsed" if stuck else "finished", *end, values, fitted.train_s)

    def _report(self, fitted: FitResult, folders: tuple[Path, ...]) -> dict[str, dict[str, float]]:
        """The weights, then the metrics on every test split at the selected step and at the last, then pictures.

        In this order, so that whatever fails costs nothing that came before it.
        """
        from lossbench.runs import cross_loss

        assert fitted.best is not None
        assert fitted.best_step is not None
        self._weights(fitted.best)
        _, last, _ = self._measure({LAST: self.splits.test})
        self.nets.restore(fitted.best)
        tests = {"val": self.splits.validation, "test": self.splits.test, **self.splits.extra_tests}
        outputs, values, calibration = self._measure(tests)
        at_end = {f"{LAST}/{name}": value for name, value in last[LAST].items()}
        fitted_on_val = {f"val/{name}": value for name, value in calibration.items()}
        selected = {f"{s}/{n}": v for s, named in values.items() if s != "val" for n, v in named.items()}
        self.recorder.metrics(fitted.steps, at_end)
        mean_losses = cross_loss.mean_losses(folders, self.splits.info, outputs["test"], self.splits.test.targets)
        under = {f"test_loss/{name}": value for name, value in mean_losses.items()}
        self.recorder.metrics(fitted.best_step, {**selected, **fitted_on_val, **under})
        seen_by = {"lossbench.features": self.experiment.features.hash} if self.experiment.features.used else {}
        self.recorder.tags({"lossbench.best_step": fitted.best_step, **seen_by})
        if self.experiment.sampling.variation == "fixed":
            self._examples(outputs["test"], calibration)
        self._pictures(TrainedModel(self.nets, outputs, self.splits, calibration, fitted.glimpses))
        missing = [metric.name for metric in self.task.metrics if metric.name not in values["test"]]
        self._remarks += [f"{name} gives no number on the test split" for name in missing]
        if self._remarks:
            self.recorder.tags({"lossbench.remarks": json.dumps(self._remarks)})
        return {**values, **last}

    def _examples(self, outputs: Outputs, calibration: Mapping[str, float]) -> None:
        """How the metrics vary with the test split's examples, and unless switched off, the predictions of each."""
        from lossbench.runs import predictions

        test, task_type = self.splits.test, self.splits.info.task_type
        values = self._tried(
            "how the metrics vary with the test examples could not be measured",
            lambda: predictions.left_out(
                self.task, outputs, test.targets, predictions.parts(test, task_type), calibration
            ),
        )
        if values:
            self.recorder.tags({"lossbench.left_out": values})
        if not self.experiment.cfg.tracking.predictions:
            return
        content = self._tried("the predictions could not be kept", lambda: predictions.packed(outputs, test))
        if content:
            with self.recorder.files() as folder:
                (folder / predictions.FILE).write_bytes(content)
        elif content is not None:
            self._remarks.append(f"its predictions take more than {predictions.LARGEST / 1e6:.0f} MB and are not kept")

    def _measure(
        self, splits: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, dict[str, float]], dict[str, float]]:
        """Outputs, metrics, and what was tuned on validation, with the weights that the nets hold now."""
        from lossbench.engine.predict import each, predict

        def outputs(split: Split, *, closely: bool) -> Outputs:
            given = predict(self.task, self.nets, split, self.experiment.cfg.seed, closely=closely)
            return each(given, lambda tensor: tensor.cpu())

        validation = outputs(self.splits.validation, closely=False)
        calibration = self.task.calibrate(validation, self.splits.validation.targets)
        found = {n: validation if n == "val" else outputs(split, closely=n != LAST) for n, split in splits.items()}
        values = {name: self.task.report(found[name], split.targets, calibration) for name, split in splits.items()}
        return found, values, calibration

    def _weights(self, best: Mapping[str, Any]) -> None:
        from safetensors.torch import save_file

        with self.recorder.files() as folder:
            save_file({name: tensor.cpu().clone() for name, tensor in best.items()}, folder / MODEL_FILE)

    def _pictures(self, seen: TrainedModel) -> None:
        """Each picture on its own; of one that cannot be drawn a remark is left."""
        import matplotlib
        import torch

        with self.recorder.files() as folder, torch.inference_mode():
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
            self._remarks.append(f"{what}: {one_line(error)}"[:REMARK])
            return None


def _draw(drawn: Mapping[str, Any], name: str, folder: Path) -> None:
    path = folder / f"{name}.png"
    try:
        drawn[name].savefig(path)
    except Exception:
        path.unlink(missing_ok=True)  # half a picture is none
        raise
