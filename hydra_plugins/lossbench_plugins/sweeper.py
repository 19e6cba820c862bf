"""`hydra/sweeper=fair`: the same tuning budget for every loss; its settings are in configs/hydra/sweeper/fair.yaml."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


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
        from lossbench.sweeps.tuning.sweep import sweep

        return sweep(self.launcher, self.context, self.config, self.settings, arguments)
