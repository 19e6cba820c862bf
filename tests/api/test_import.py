"""`import lossbench` is light, offers what it promises, and its package of losses is a function, too."""

import subprocess
import sys
from pathlib import Path

import lossbench

OFFERED = ["Comparison", "ConfigError", "Trained", "check", "compare", "load", "losses", "report", "train", "tune"]


def python(script):
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_importing_waits_for_nothing_heavy():
    heavy = ("torch", "mlflow", "hydra", "omegaconf", "pandas", "numpy", "rich", "lossbench.api")
    assert python(f"import sys, lossbench; print(*[one for one in {heavy} if one in sys.modules])") == []


def test_what_is_offered_is_there():
    assert lossbench.__all__ == OFFERED
    assert set(OFFERED) <= set(dir(lossbench))
    assert all(callable(getattr(lossbench, name)) for name in OFFERED)
    assert (Path(lossbench.__file__).parent / "py.typed").is_file()


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(lossbench, "comparee")


def test_the_package_of_losses_stays_one():
    script = """
import lossbench
before = len(lossbench.losses("regression"))
import lossbench.losses as package
from lossbench.losses import focal
from lossbench import losses
print(package is losses is lossbench.losses, losses.focal is focal, len(losses("regression")) == before > 5)
"""
    assert python(script) == ["True", "True", "True"]
