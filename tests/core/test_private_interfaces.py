"""What we use of others that they do not promise: each with the version it was seen on, and what of ours hangs on it.

`os._exit`, which ends a process at once, has an underscore and is documented by Python: it is none of these.
"""

from __future__ import annotations

import atexit
import inspect
import platform
import subprocess
import sys
from importlib.metadata import version

import pytest

from lossbench.engine import optimizers


def gone(door, seen, ours):
    """What to say where a door is shut."""
    package = seen.partition(" ")[0]
    now = platform.python_version() if package == "Python" else version(package)
    return f"{door} was seen on {seen}, this is {package} {now}: {ours}"


MAKES = """
import sys
import torch
{first}
torch.optim.Adam([torch.zeros(1, requires_grad=True)]).zero_grad()
print("torch._dynamo" in sys.modules)
"""


def loads_the_compiler(first):
    script = MAKES.format(first=first)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()


def test_torch_leaves_its_compiler_alone_where_a_method_says_so():
    ours = "engine/optimizers.py sets it so that the first optimizer does not import torch's compiler for a second"
    door = gone("__dynamo_disable", "torch 2.13.0", ours)
    assert loads_the_compiler("import lossbench.engine.optimizers") == "False", door
    assert loads_the_compiler("") == "True", f"{door}; torch does so by itself now: remove those lines"


@pytest.mark.parametrize("optimizer", optimizers.BY_NUMBER, ids=lambda optimizer: optimizer.__name__)
def test_a_step_of_torch_is_wrapped_once_for_its_compiler_and_its_profiler(optimizer):
    ours = "engine/optimizers.py: step_of calls what is inside, to spare a small net's steps the wrappers"
    raw = inspect.unwrap(optimizer.step)
    door = gone(f"{optimizer.__name__}.step.__wrapped__", "torch 2.13.0", ours)
    assert raw is not optimizer.step, door
    assert (raw.__name__, [*inspect.signature(raw).parameters]) == ("step", ["self", "closure"]), door


def test_a_client_of_mlflow_knows_its_store(store):
    ours = "analysis/histories.py and core/recorded_runs.py read from its engine, and tracking/sqlite.py closes it"
    door = gone("MlflowClient._tracking_client.store.engine", "mlflow 3.17.2", ours)
    inner = getattr(getattr(store.client, "_tracking_client", None), "store", None)
    assert hasattr(getattr(inner, "engine", None), "dispose"), door


NUMBERS = "run_uuid key step value timestamp is_nan"
TABLES = {
    "SqlMetric": NUMBERS,
    "SqlLatestMetric": NUMBERS,
    "SqlTag": "run_uuid key value",
    "SqlParam": "run_uuid key value",
    "SqlInput": "destination_type destination_id source_id",
    "SqlDataset": "dataset_uuid name digest dataset_source_type dataset_source dataset_schema dataset_profile",
    "SqlRun": "run_uuid name experiment_id user_id status start_time end_time lifecycle_stage artifact_uri",
}


@pytest.mark.parametrize("name", TABLES)
def test_the_tables_of_mlflow_have_the_columns_that_records_are_read_from(name):
    from mlflow.store.tracking.dbmodels import models

    ours = "analysis/histories.py reads curves from these tables, core/recorded_runs.py runs"
    door = gone(name, "mlflow 3.17.2", ours)
    assert hasattr(models, name), door
    missing = {*TABLES[name].split()} - {*getattr(models, name).__table__.columns.keys()}
    assert not missing, door


def test_a_server_of_mlflow_gives_curves_of_many_runs():
    from mlflow.server import app
    from mlflow.store.tracking.rest_store import RestStore

    from lossbench.analysis import histories

    ours = "analysis/histories.py asks it, as MLflow's own pages do"
    served = {rule.rule: rule.methods for rule in app.url_map.iter_rules()}
    assert "GET" in served.get(histories.BULK, ()), gone(histories.BULK, "mlflow 3.17.2", ours)
    store = RestStore(lambda: "credentials")
    assert store.get_host_creds() == "credentials", gone("RestStore.get_host_creds", "mlflow 3.17.2", ours)


def test_python_runs_what_was_left_for_the_end_when_asked():
    ours = "__main__.py: console ends by it and os._exit, so that nothing is taken apart for a second"
    assert callable(getattr(atexit, "_run_exitfuncs", None)), gone("atexit._run_exitfuncs", "Python 3.11.7", ours)
    script = "import atexit, os; atexit.register(print, 'done', flush=True); atexit._run_exitfuncs(); os._exit(0)"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert said.stdout == "done\n"


def test_hydra_runs_in_a_process_and_gives_it_back():
    from hydra._internal.hydra import Hydra
    from hydra._internal.utils import create_config_search_path
    from hydra.core.singleton import Singleton
    from hydra.core.utils import JobReturn
    from omegaconf.basecontainer import BaseContainer

    ours = "api/session.py calls it without a command line, and api/guard.py puts back what it keeps"
    for door in (Hydra.create_main_hydra2, Hydra.multirun, Hydra.run, create_config_search_path):
        assert callable(door), gone(door.__name__, "hydra-core 1.3.8", ours)
    assert isinstance(Singleton._instances, dict), gone("Singleton._instances", "hydra-core 1.3.8", ours)
    assert isinstance(BaseContainer._resolvers, dict), gone("BaseContainer._resolvers", "omegaconf 2.3.1", ours)
    ours = "sweeps/returns.py raises it without the line that return_value prints"
    assert hasattr(JobReturn(), "_return_value"), gone("JobReturn._return_value", "hydra-core 1.3.8", ours)
