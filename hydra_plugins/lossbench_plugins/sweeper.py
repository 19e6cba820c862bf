"""The sweepers: `basic`, the default of -m; `sequential`, which stops once losses are decided; `fair`, equal tuning.

The settings of the last two are in configs/hydra/sweeper.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from lossbench.core import require

TARGET = "hydra_plugins.lossbench_plugins.sweeper.GridSweeper"
NODE: dict[str, Any] = {"_target_": TARGET, "max_batch_size": None, "params": {}}
# replaces Hydra's default under its name: fair in an experiment could not replace one from config.yaml
ConfigStore.instance().store(group="hydra/sweeper", name="basic", node=NODE, provider="lossbench")


class GridSweeper(BasicSweeper):
    """Hydra's sweeper, but a loss's setting is swept only for losses that have it, and no file is written."""

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        """Launch all jobs of the grid. Raises: the error of the first job that failed."""
        from lossbench.sweeps.composing import one_of_each
        from lossbench.sweeps.folder import folder
        from lossbench.sweeps.returns import raise_first

        assert self.hydra_context is not None
        assert self.config is not None
        assert self.launcher is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        asked = parser.parse_overrides([*self._parse_config(), *arguments])
        returns: list[Sequence[JobReturn]] = []
        with folder(self.config):
            for batch in self.split_arguments(asked, self.max_batch_size):
                self.validate_batch_is_legal(one_of_each(batch) if hasattr(self.launcher, "search") else batch)
                returns.append(self.launcher.launch(batch, initial_job_idx=sum(map(len, returns))))
                raise_first(returns[-1])
        return returns

    def split_arguments(self, overrides: list[Override], max_batch_size: int | None) -> list[list[list[str]]]:  # type: ignore[override]
        """The jobs of the grid, in batches. Raises: ConfigError for sweeps that are not lists of values."""
        from lossbench.sweeps.own import discrete, distribute

        assert self.hydra_context is not None
        assert self.config is not None
        discrete(overrides)
        size = 1 if max_batch_size is None else max_batch_size
        require("hydra.sweeper.max_batch_size", size, lambda size: size >= 1, "at least 1, or null")
        (jobs,) = BasicSweeper.split_arguments(overrides, None)
        jobs = distribute(self.hydra_context.config_loader, self.config, jobs)
        return list(self.split_overrides_to_chunks(jobs, max_batch_size))


class SequentialSweeper(GridSweeper):
    """Adds seeds, `most` at most, until each loss is significantly worse than the best or equal to it."""

    def __init__(self, most: int, max_batch_size: int | None = None, params: Any = None) -> None:
        super().__init__(max_batch_size=max_batch_size, params=params)
        self.most = most

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        """Train all jobs on more and more seeds. Raises: ConfigError for seeds given, or too few."""
        from lossbench.sweeps import sequential
        from lossbench.sweeps.folder import folder

        assert self.hydra_context is not None
        assert self.config is not None
        most = sequential.checked(self.most, arguments)
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        (jobs,) = self.split_arguments(parser.parse_overrides([*self._parse_config(), *arguments]), None)
        with folder(self.config):
            return [sequential.sweep(self.launcher, jobs, most)]


class FairSweeper(Sweeper):
    """Equal tuning of every loss, with the launcher that is configured."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep Hydra's context and create the launcher."""
        from hydra.core.plugins import Plugins

        self.context = hydra_context
        self.config: Any = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Sequence[JobReturn]:
        """Search settings for every loss, then train the final runs. Raises: ConfigError before any training."""
        from lossbench.sweeps.folder import folder
        from lossbench.sweeps.tuning.sweep import sweep

        with folder(self.config):
            return sweep(self.launcher, self.context, self.config, self.settings, arguments)
