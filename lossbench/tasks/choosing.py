"""What a configuration chooses of a task: which metric is primary, and metrics of the user's own."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from difflib import get_close_matches
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

from lossbench.core import ConfigError, Metric, each_tensor
from lossbench.datasets import remarks

if TYPE_CHECKING:
    from torch import Tensor

Weights: TypeAlias = "Mapping[str, Tensor]"
"""The keyword argument `weights` [n], or nothing: see `core.weight_argument`."""

ROUNDING = 1e-6  # by which a metric in single precision may leave its range

MetricFunction = Callable[..., float]
"""A function of outputs, as the task's `predict` gives them, and targets, with `core.metric` above it.

Where examples have weights, one that has a parameter `weights` gets them by this name.
"""


def with_metrics(task: type[Any], primary: str | None, own: Sequence[MetricFunction]) -> type[Any]:
    """The task with these metrics beside its own, and this one first: selection, tuning, verdict and report follow.

    A primary metric that the task only reports, such as one at a threshold tuned on validation, is also measured during
    training. A metric of the user's own that fails, or gives no finite number in its range, is left out there.

    Raises: ConfigError for a function that declares no direction, and for two of one name.
    """
    for function in own:
        if not isinstance(getattr(function, "metric", None), Metric):
            module, name = getattr(function, "__module__", ""), getattr(function, "__name__", type(function).__name__)
            raise ConfigError(
                f"task.metrics={module}.{name}: declares no direction; put "
                "@lossbench.core.metric('what it is', higher_is_better=True) above it"
            )
    names = [_declared(function).name for function in own]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"task.metrics: {name} is there twice; give one of them another name")
    chosen: type[Any] = _with(task, primary, tuple(own)) if primary or own else task  # type: ignore[arg-type]
    return chosen


@cache
def guarded(task: type[Any]) -> type[Any]:
    """A task that somebody else wrote, which measures copies, so that outputs and splits stay as they are.

    A metric that is NaN, such as a correlation of equal numbers, is left out; of our own tasks one is NaN only where a
    training has diverged.
    """

    def defined(values: Mapping[str, float]) -> dict[str, float]:
        for name in (name for name, value in values.items() if math.isnan(value)):
            remarks.say(f"task: {name} is NaN, and is left out there")
        return {name: value for name, value in values.items() if not math.isnan(value)}

    def measure(self: Any, outputs: Any, targets: Any, **weights: Tensor) -> dict[str, float]:
        return defined(task.measure(self, *_copies(outputs, targets), **_copy_each(weights)))

    def measure_tuned(
        self: Any, outputs: Any, targets: Any, calibration: Mapping[str, float], **weights: Tensor
    ) -> dict[str, float]:
        return defined(task.measure_tuned(self, *_copies(outputs, targets), calibration, **_copy_each(weights)))

    def report(
        self: Any, outputs: Any, targets: Any, calibration: Mapping[str, float], **weights: Tensor
    ) -> dict[str, float]:
        return defined(task.report(self, *_copies(outputs, targets), calibration, **_copy_each(weights)))

    def calibrate(self: Any, outputs: Any, targets: Any, **weights: Tensor) -> dict[str, float]:
        found: dict[str, float] = task.calibrate(self, *_copies(outputs, targets), **_copy_each(weights))
        return found

    methods = {"calibrate": calibrate, "measure": measure, "measure_tuned": measure_tuned, "report": report}
    named = {"name": task.name, "__module__": task.__module__, "__qualname__": task.__qualname__}
    return type(task.__name__, (task,), {**named, **methods})


def _declared(function: MetricFunction) -> Metric:
    found: Metric = function.metric  # type: ignore[attr-defined]
    return found


@cache  # so that the runs of a stack have one class
def _with(task: type[Any], primary: str | None, own: tuple[MetricFunction, ...]) -> type[Any]:
    declared = tuple(map(_declared, own))

    def plain(self: Any) -> Any:
        return task(**{field.name: getattr(self, field.name) for field in fields(self) if field.init})

    def more(values: Mapping[str, float], outputs: Any, targets: Any, weights: Weights) -> dict[str, float]:
        numbers = {_declared(function).name: _number(function, outputs, targets, weights) for function in own}
        return {**values, **{name: value for name, value in numbers.items() if value is not None}}

    def metrics(self: Any) -> tuple[Metric, ...]:
        return _ordered(self.name, (*plain(self).metrics, *declared), primary)

    def measure_tuned(
        self: Any, outputs: Any, targets: Any, calibration: Mapping[str, float] | None, **weights: Tensor
    ) -> dict[str, float]:
        one = plain(self)
        values = more(one.measure(outputs, targets, **weights), outputs, targets, weights)
        if primary is None or primary in values or primary in _names(declared):
            return values
        calibration = one.calibrate(outputs, targets, **weights) if calibration is None else calibration
        return {**values, primary: one.report(outputs, targets, calibration, **weights)[primary]}

    def measure(self: Any, outputs: Any, targets: Any, **weights: Tensor) -> dict[str, float]:
        return measure_tuned(self, outputs, targets, None, **weights)

    def report(
        self: Any, outputs: Any, targets: Any, calibration: Mapping[str, float], **weights: Tensor
    ) -> dict[str, float]:
        return more(plain(self).report(outputs, targets, calibration, **weights), outputs, targets, weights)

    methods = {"measure": measure, "measure_tuned": measure_tuned, "report": report}
    named = {"name": task.name, "__module__": task.__module__, "__qualname__": task.__qualname__}
    return type(task.__name__, (task,), {**named, **methods, "metrics": property(metrics)})


def _names(metrics: Sequence[Metric]) -> list[str]:
    return [metric.name for metric in metrics]


def _ordered(task: str, metrics: tuple[Metric, ...], primary: str | None) -> tuple[Metric, ...]:
    """The primary metric first. Raises: ConfigError where there is none of this name, or there are two of one."""
    names = _names(metrics)
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"task.metrics: {name} is also one of {task}'s own metrics; give it another name")
    if primary is None:
        return metrics
    if primary not in names:
        near = get_close_matches(primary, names, n=1, cutoff=0)
        raise ConfigError(f"task.primary={primary}: no such metric of {task}; nearest: {near[0]}")
    first = metrics[names.index(primary)]
    return (first, *(metric for metric in metrics if metric is not first))


def _number(function: MetricFunction, outputs: Any, targets: Any, weights: Weights) -> float | None:
    """The value of a metric of the user's own, on the CPU; None, and a remark, if it is no number of its range."""
    on_cpu = [each_tensor(values, lambda tensor: tensor.to("cpu")) for values in _copies(outputs, targets)]
    metric = _declared(function)
    if weights and not _takes_weights(function):
        remarks.say(f"task.metrics: {metric.name} has no parameter weights, and measures all examples alike")
        weights = {}
    low, high = metric.range
    try:
        value = float(function(*on_cpu, **{name: one.cpu() for name, one in _copy_each(weights).items()}))
    except (Exception, SystemExit) as error:  # whatever a function of the user's raises
        _remark(metric.name, f"{type(error).__name__}: {error}")
        return None
    if not math.isfinite(value):
        _remark(metric.name, f"gives {value}")
    elif not low - ROUNDING <= value <= high + ROUNDING:  # intervals and tests rely on the range
        _remark(metric.name, f"gives {value:g}, outside the range from {low:g} to {high:g} that it declares")
    else:
        return min(max(value, low), high)
    return None


def _takes_weights(function: MetricFunction) -> bool:
    try:
        return "weights" in inspect.signature(function).parameters
    except (TypeError, ValueError):  # not written in Python
        return False


def _copies(*values: Any) -> list[Any]:
    """What code of the user's may change, while the split has to stay as it is."""
    return [each_tensor(one, lambda tensor: tensor.detach().clone()) for one in values]


def _copy_each(weights: Weights) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in weights.items()}


def _remark(name: str, why: str) -> None:
    remarks.say(f"task.metrics: {name} gives no number, and is left out there: {why}")
