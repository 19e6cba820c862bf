"""The launchers: `lossbench`, this machine and the default of -m; `ray` and `slurm`, whose settings are in configs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

if TYPE_CHECKING:
    from lossbench.sweeps.engines import Engine

TARGET = "hydra_plugins.lossbench_plugins.launcher.LossbenchLauncher"
ConfigStore.instance().store(
    group="hydra/launcher", name="lossbench", node={"_target_": TARGET, "leave_out": False}, provider="lossbench"
)


class LossbenchLauncher(Launcher):
    """Passes a sweep's jobs to lossbench and their results to Hydra, in order.

    With `leave_out`, losses that cannot train on the data are left out instead of refused.
    """

    concurrent = False  # whether several threads may launch

    def __init__(self, leave_out: bool = False, **settings: Any) -> None:
        """`settings` are those of the engine."""
        self.leave_out, self.settings = leave_out, settings

    @cached_property
    def engine(self) -> Engine:
        """Where stacks train. Raises: ConfigError for settings that cannot work."""
        from lossbench.sweeps.engines.here import Here

        return Here(**self.settings)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep Hydra's context, whose configuration loader becomes lossbench's faster one."""
        from lossbench.sweeps.composing import Composer

        loader: Any = Composer(hydra_context.config_loader)
        hydra_context.config_loader = loader  # the sweeper composes with it as well
        self.context, self.task, self.config = hydra_context, task_function, config
        self.last = True  # set by sweepers that launch in batches: whether this is the last batch
        self.search: tuple[Any, ...] = ()  # set by the fair sweeper: its datasets and its board

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Train the jobs with these overrides."""
        from lossbench.sweeps.launch import batch, launch

        arguments = (self.context, self.task, self.config, job_overrides, initial_job_idx, self.engine)
        return batch(*arguments, *self.search) if self.search else launch(*arguments, last=self.last)


class RayLauncher(LossbenchLauncher):
    """Trains stacks on a Ray cluster."""

    concurrent = True  # Ray shares out its nodes

    @cached_property
    def engine(self) -> Engine:
        """The cluster. Raises: ConfigError for settings that cannot work."""
        from lossbench.sweeps.engines.ray_tasks import Ray

        return Ray(**self.settings)


class SlurmLauncher(LossbenchLauncher):
    """Trains stacks in jobs of a Slurm cluster."""

    @cached_property
    def engine(self) -> Engine:
        """The cluster. Raises: ConfigError for settings that cannot work."""
        from lossbench.sweeps.engines.slurm_jobs import Slurm

        return Slurm(**self.settings)
