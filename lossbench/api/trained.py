"""A trained model, from its record."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossbench.api import inputs
from lossbench.core import ConfigError, without_digest

if TYPE_CHECKING:
    import pandas as pd

    from lossbench.runs.saved_model import SavedModel


@dataclass(frozen=True)
class Trained:
    """A run: its record's id, its outcome, and its metrics by split; `uri` is the address of its store.

    `loss`, `dataset` and `seed` are as in the record.
    """

    run_id: str
    outcome: str
    metrics: Mapping[str, Mapping[str, float]]
    loss: str = ""
    dataset: str = ""
    seed: str = ""
    uri: str = field(default="", repr=False)

    def predict(self, rows: Any) -> pd.DataFrame:
        """The model's answers for new rows: a table, the path of one, or inputs as it was trained on.

        Classes have the columns `prediction` and a probability each, after the temperature, and of two classes at the
        threshold, that were fitted on validation; numbers are in the target's own unit. Raises: ConfigError for rows
        without the columns that the model was trained with.
        """
        return self.model.predict(inputs.rows(rows) if self.model.encoding is not None else rows)

    @cached_property
    def model(self) -> SavedModel:
        """The model and its encoding of rows, from the files of the record. Raises: ConfigError where it left none."""
        import tempfile

        from lossbench import tracking
        from lossbench.runs import saved_model

        with tempfile.TemporaryDirectory() as folder:
            return saved_model.fetched(tracking.Store(self.uri).client, self.run_id, Path(folder))

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The run's settings, by dotted name. Raises: ConfigError for a run that left no files."""
        from omegaconf import OmegaConf

        from lossbench import tracking
        from lossbench.config import run_key
        from lossbench.runs import saved_model

        client = tracking.Store(self.uri).client
        saved_model.refuse_without_files(client, self.run_id)
        path = client.download_artifacts(self.run_id, saved_model.CONFIGURATION)
        return run_key.leaves(OmegaConf.to_container(OmegaConf.create(Path(path).read_text(encoding="utf-8"))))

    @property
    def table(self) -> pd.DataFrame:
        """The metrics as a table, with a row per metric and a column per split."""
        import pandas as pd

        return pd.DataFrame({split: dict(values) for split, values in self.metrics.items()})

    def __repr__(self) -> str:
        return f"{self._title}\n{self.table.to_string(float_format='{:.4f}'.format, na_rep='–')}"

    def _repr_html_(self) -> str:
        return f"<p>{escape(self._title)}</p>{self.table.to_html(float_format='{:.4f}'.format, na_rep='–')}"

    @property
    def _title(self) -> str:
        return f"{without_digest(self.loss)} on {self.dataset}, seed {self.seed}: {self.outcome} (run {self.run_id})"


def load(run_id: str, *, uri: str | None = None) -> Trained:
    """A run from the store at `uri`, by default that of MLFLOW_TRACKING_URI, else mlflow.db in the working directory.

    Raises: ConfigError where the store has no such run.
    """
    from mlflow.exceptions import MlflowException

    from lossbench import tracking
    from lossbench.runs.earlier import result_of

    store = tracking.Store(tracking.existing_store(uri))
    try:
        found = store.client.get_run(run_id)
    except MlflowException as error:
        raise ConfigError(f"run {run_id}: not in {store.uri}; found.runs lists those of a comparison") from error
    tags = found.data.tags
    if "lossbench.metrics" not in tags:
        raise ConfigError(f"run {run_id}: holds no model; runs of lossbench.train and of a comparison do")
    result = result_of(found)
    order = [name for name, *_ in json.loads(tags["lossbench.metrics"])]
    metrics = {split: _ordered(values, order) for split, values in result.metrics.items()}
    outcome = tags.get("lossbench.outcome", found.info.status.lower())
    loss, dataset, seed = (tags.get(name, "") for name in ("loss", "dataset", "seed"))
    return Trained(run_id, outcome, metrics, loss, dataset, seed, store.uri)


def _ordered(values: Mapping[str, float], names: Sequence[str]) -> dict[str, float]:
    """The values in the order of these names; others last."""
    return {name: values[name] for name in sorted(values, key=lambda name: [*names, name].index(name))}
