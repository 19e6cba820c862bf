"""What one run trains: its objects, made from the configuration, and what is done with them in order."""

from __future__ import annotations

import resource
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from lossbench import terminal, tracking
from lossbench.core import Result, stream

if TYPE_CHECKING:
    from lossbench.engine import Fitted

MODEL_FILE = "model.safetensors"


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
        self.resumable = not (isinstance(self.loss, torch.nn.Module) and list(self.loss.parameters()))
        self.train_split = self.splits.train.to(self.device)
        build.probe(self.task, self.nets, self.train_split, cfg.train.batch_size)

    def fit(
        self,
        recorder: tracking.Recorder,
        watch: Callable[[int, Mapping[str, float]], None],
        stop: Callable[[], bool] = lambda: False,
        resume: Mapping[str, Any] | None = None,
    ) -> Fitted:
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
            stop=stop,
            resume=resume,
        )

    def train(self, recorder: tracking.Recorder, label: str, resume: Mapping[str, Any] | None) -> Result:
        """Fit, then read the test splits once; or say where training diverged."""
        with terminal.bar(label, self.plan.steps) as bar, Stop() as stop:
            fitted = self.fit(recorder, bar, stop, resume)
        step_ms = 1000 * fitted.train_s / max(1, fitted.steps)
        cost = {"time/train_s": fitted.train_s, "time/step_ms": step_ms, "memory/peak_mb": _peak_mb(self.device.type)}
        recorder.metrics(fitted.steps, cost)
        end = (recorder.run_id, fitted.diverged or fitted.steps, fitted.best_step, self.task.yardsticks[0])
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


class Stop:
    """While entered, Ctrl-C and SIGTERM ask for an end after the current step; a second one does not wait for it.

    One inside another starts asked where the outer one was: a sweep's spares its runs' records an interrupt at any
    line, and the next training ends before its first step.
    """

    def __init__(self) -> None:
        self._asked = False

    def __call__(self) -> bool:
        return self._asked

    def __enter__(self) -> Stop:
        here = threading.current_thread() is threading.main_thread()  # elsewhere Python takes no signals
        numbers = (signal.SIGINT, signal.SIGTERM) if here else ()
        self._before = {number: signal.signal(number, self._ask) for number in numbers}
        outer = [getattr(handler, "__self__", None) for handler in self._before.values()]
        self._asked = any(isinstance(stop, Stop) and stop() for stop in outer)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._asked and error[0] is None:  # in the last step, after which nobody asked
            raise KeyboardInterrupt

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True


def _peak_mb(device: str) -> float:
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated() / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss is in bytes there, in KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
