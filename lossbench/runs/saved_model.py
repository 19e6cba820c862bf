"""A trained model as files, and applied to new rows: weights as safetensors, structure as JSON, no pickles."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from lossbench.core import Column, ConfigError, DatasetInfo, Encoding, Outputs, Sampling, Split
from lossbench.core.failures import one_line
from lossbench.runs import builders

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from lossbench.engine import Nets

WEIGHTS, STRUCTURE, CONFIGURATION = "model.safetensors", "model.json", "config.yaml"
ENCODING = "encoding.json"
FILES = (WEIGHTS, STRUCTURE, CONFIGURATION, ENCODING, "encoding.safetensors")


def save_weights(weights: Mapping[str, Tensor], encoding: Encoding | None, folder: Path) -> None:
    """Write the weights, and the encoding where there is one."""
    from safetensors.torch import save_file

    save_file({name: tensor.cpu().clone() for name, tensor in weights.items()}, folder / WEIGHTS)
    if encoding is not None:
        encoding.save(folder)


def save_structure(info: DatasetInfo, outputs_per_target: int, calibration: Mapping[str, float], folder: Path) -> None:
    """Write what is known of the data, what the loss needs of the model, and what was fitted on validation."""
    content = {
        "dataset": asdict(info),
        "outputs_per_target": outputs_per_target,
        "calibration": dict(calibration),
    }
    (folder / STRUCTURE).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


class SavedModel:
    """A trained model with the encoding of its rows, from the files of its run."""

    def __init__(self, folder: Path) -> None:
        """Raises: ConfigError for files that are missing, or a model that cannot be built here."""
        from safetensors.torch import load_file

        if not (folder / STRUCTURE).is_file() or not (folder / WEIGHTS).is_file():
            raise ConfigError(f"{folder}: has no {WEIGHTS} and {STRUCTURE}, which a finished run records")
        content = json.loads((folder / STRUCTURE).read_text(encoding="utf-8"))
        self.cfg: DictConfig = OmegaConf.load(folder / CONFIGURATION)  # type: ignore[assignment]
        self.info = _info(content["dataset"])
        self.calibration: dict[str, float] = content["calibration"]
        self.encoding = _encoding(folder)
        self.nets = _nets(self.cfg, self.info, content["outputs_per_target"])
        weights = load_file(folder / WEIGHTS)
        self.nets.restore({name: weights[name] for name in self.nets.state()})
        self.nets.eval()
        settings: Any = OmegaConf.to_container(self.cfg.task, resolve=True)
        own = {name: value for name, value in settings.items() if name not in ("primary", "metrics")}
        self.task: Any = builders.task(self.info.task_type, builders.no_loss, self.info, own)

    def predict(self, rows: Any) -> pd.DataFrame:
        """The answers for new rows: a file, a DataFrame, columns by name; where data are no table, an array of inputs.

        Classes have the columns `prediction` and a probability for each class, after the temperature, and in a binary
        problem at the threshold, that were fitted on validation. Numbers are in the target's own unit.

        Raises: ConfigError for rows without the columns that the model was trained with.
        """
        inputs, index = self._encoded(rows)
        if not len(inputs):
            return self.answers(torch.zeros(1, *self.info.inputs)).iloc[:0]
        return self.answers(inputs, index)

    def outputs(self, rows: Any) -> Outputs:
        """The raw outputs for new rows: logits of classes, standardised numbers; as the run's metrics saw them."""
        return self._outputs(self._encoded(rows)[0])

    def answers(self, inputs: Tensor, index: Any = None) -> pd.DataFrame:
        """As `predict`, for encoded inputs [n, …]."""
        import pandas as pd

        if not hasattr(self.task, "answers"):
            raise ConfigError(
                f"predict: {self.info.task_type} models have no answers for rows; outputs() has the numbers"
            )
        answers = pd.DataFrame(self.task.answers(self._outputs(inputs), self.calibration), index=index)
        if self.info.classes and self.encoding is not None:
            answers["prediction"] = _as_given(answers["prediction"], self.encoding.target)
        return answers

    def _outputs(self, inputs: Tensor) -> Outputs:
        from lossbench.engine.predict import predict

        if tuple(inputs.shape[1:]) != self.info.inputs:
            raise ConfigError(
                f"predict: rows of shape {list(inputs.shape[1:])}; the model was trained with {list(self.info.inputs)}"
            )
        return predict(self.task, self.nets, Split(inputs, inputs), int(self.cfg.seed), closely=True)

    def table(self, rows: Any) -> pa.Table:
        """New rows as a table: a file, read as the run's own was, a data frame, or columns by name."""
        from lossbench.datasets.tables.reading import as_table

        settings: Any = OmegaConf.to_container(self.cfg.dataset)
        return as_table(rows, settings, self.encoding.texts if self.encoding is not None else ())

    def _encoded(self, rows: Any) -> tuple[Tensor, Any]:
        """Encoded rows, and the index of a data frame of pandas."""
        import pandas as pd

        if self.encoding is None:
            return torch.as_tensor(rows, dtype=torch.float32), None
        try:
            inputs = torch.from_numpy(self.encoding.encode(self.table(rows)))
        except ConfigError as error:
            raise ConfigError(f"predict: {error}") from error
        return inputs, rows.index if isinstance(rows, pd.DataFrame) else None


def _as_given(classes: pd.Series[Any], kind: str) -> pd.Series[Any]:
    """Classes as values of the target's own type."""
    if kind == "boolean":
        return classes == "true"
    return classes.astype({"integer": "int64", "number": "float64"}.get(kind, "str"))


def _info(content: Mapping[str, Any]) -> DatasetInfo:
    """What `asdict` made of the info, from JSON."""
    found = DatasetInfo(**{name: _tuples(value) for name, value in content.items()})
    columns = tuple(Column(**{name: _tuples(value) for name, value in one.items()}) for one in content["columns"])
    return replace(found, sampling=Sampling(**content["sampling"]), columns=columns)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _encoding(folder: Path) -> Any:
    from lossbench.datasets.tables.encoding import Encoding as OfTables

    return OfTables.load(folder) if (folder / ENCODING).is_file() else None


def _nets(cfg: DictConfig, info: DatasetInfo, outputs_per_target: int) -> Nets:
    try:
        return builders.nets(cfg.model, info, int(cfg.seed), outputs_per_target)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"model: {cfg.model._target_} cannot be built here: {one_line(error)}") from error


def refuse_without_files(client: Any, run_id: str) -> None:
    """Raises: ConfigError for a run that was to leave no files."""
    if client.get_run(run_id).data.params.get("tracking.artifacts") == "none":
        raise ConfigError(
            f"run {run_id}: left no weights, as tracking.artifacts=none says; train it again with "
            "tracking.artifacts=weights"
        )


def fetched(client: Any, run_id: str, folder: Path) -> SavedModel:
    """The model of a run, its files copied to a folder. Raises: ConfigError for a run that recorded none."""
    from mlflow.exceptions import MlflowException

    try:
        names = {file.path for file in client.list_artifacts(run_id)}
    except MlflowException as error:
        raise ConfigError(f"run {run_id}: not in this store: {one_line(error)}") from error
    if not {WEIGHTS, STRUCTURE} <= names:
        refuse_without_files(client, run_id)
        raise ConfigError(f"run {run_id}: recorded no {STRUCTURE}; a finished run of this version does")
    for name in sorted(names.intersection(FILES)):
        client.download_artifacts(run_id, name, str(folder))
    return SavedModel(folder)
