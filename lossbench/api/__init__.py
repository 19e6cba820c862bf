"""The Python door: what `import lossbench` offers."""

from lossbench.api.calls import compare, train, tune
from lossbench.api.comparison import Comparison
from lossbench.api.looking import check, losses, report
from lossbench.api.trained import Trained, load
from lossbench.core import ConfigError

__all__ = ["Comparison", "ConfigError", "Trained", "check", "compare", "load", "losses", "report", "train", "tune"]
