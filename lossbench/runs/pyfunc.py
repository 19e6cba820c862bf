"""A trained model as MLflow's pyfunc: files and the name of this module, no pickle; `load_model` takes it."""

from __future__ import annotations

import warnings
from pathlib import Path

from lossbench.core import ConfigError
from lossbench.runs.saved_model import SavedModel

FOLDER = "mlflow_model"  # among the artifacts of a run
TYPES = {"integer": "long", "number": "double", "text": "string", "date": "datetime", "boolean": "boolean"}


class _Model:
    def __init__(self, path: str) -> None:
        self.model = SavedModel(Path(path))

    def predict(self, rows):  # type: ignore[no-untyped-def] # a hint would be taken for a schema
        return self.model.predict(rows)


def _load_pyfunc(path: str) -> _Model:
    """What MLflow calls with the folder of a run's files."""
    return _Model(path)


def save(files: Path, target: Path) -> None:
    """Write the model of these files as a pyfunc with a signature into `target`.

    Raises: ConfigError for a model whose rows are not those of a table.
    """
    from importlib.metadata import version

    import pandas as pd
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    model = SavedModel(files)
    if model.encoding is None:
        raise ConfigError("tracking.model=true: works for tables, whose rows have columns")
    types = {name: TYPES[kind] for name, kind in model.encoding.sources.items()}
    answered = model.predict({name: [None] for name in types})
    inputs = [ColSpec(DataType[kind], name, required=False) for name, kind in types.items()]
    outputs = [
        ColSpec(DataType.double if pd.api.types.is_numeric_dtype(values) else DataType.string, str(name))
        for name, values in answered.items()
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own classes, and that there is no example beside the signature
        import mlflow.pyfunc

        mlflow.pyfunc.save_model(
            path=str(target),
            loader_module=__name__,
            data_path=str(files),
            signature=ModelSignature(Schema([*inputs]), Schema([*outputs])),
            pip_requirements=[f"{name}=={version(name)}" for name in ("lossbench", "torch")],
        )
