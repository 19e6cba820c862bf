"""The sweepers: `basic`, the default of -m; `sequential`, until losses are decided; `fair`, which tunes each equally.

Settings of the latter two are in configs/hydra/sweeper.
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
# under the name of Hydra's own, which is its default: one that config.yaml chose, no experiment could exchange for fair
ConfigStore.instance().store(group="hydra/sweeper", name="basic", node=NODE, provider="lossbench")


class GridSweeper(BasicSweeper):
    """Hydra's own, save that a setting of a loss is swept for the losses that have it, and that no file is written."""

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        from lossbench.sweeps.folder import folder

        assert self.hydra_context is not None
        assert self.config is not None
        assert self.launcher is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        asked = parser.parse_overrides([*self._parse_config(), *arguments])
        returns: list[Sequence[JobReturn]] = []
        with folder(self.config):
            for batch in self.split_arguments(asked, self.max_batch_size):
                self.validate_batch_is_legal(batch)
                returns.append(self.launcher.launch(batch, initial_job_idx=sum(map(len, returns))))
                for returned in returns[-1]:
                    _ = returned.return_value  # raises what the job met
        return returns

    def split_arguments(self, overrides: list[Override], max_batch_size: int | None) -> list[list[list[str]]]:  # type: ignore[override]
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
    """As many seeds as it takes, at most `most`: after some of them it is looked which losses are decided."""

    def __init__(self, most: int, max_batch_size: int | None = None, params: Any = None) -> None:
        super().__init__(max_batch_size=max_batch_size, params=params)
        self.most = most

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
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
    """Hands what is asked for, and whichever launcher is chosen, to lossbench."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        from hydra.core.plugins import Plugins

        self.context = hydra_context
        self.config: Any = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Sequence[JobReturn]:
        from lossbench.sweeps.folder import folder
        from lossbench.sweeps.tuning.sweep import sweep

        with folder(self.config):
            return sweep(self.launcher, self.context, self.config, self.settings, arguments)
