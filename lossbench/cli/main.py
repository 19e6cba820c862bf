"""The command line: Hydra for training, a few verbs beside it. Torch and MLflow load when something trains."""

from __future__ import annotations

import atexit
import contextlib
import gc
import io
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lossbench.cli import commands, compare
from lossbench.config import redaction
from lossbench.config.error_messages import Carried
from lossbench.core import ConfigError, cache_folder, machine
from lossbench.runs import signals
from lossbench.terminal import encoding

if TYPE_CHECKING:
    from omegaconf import DictConfig

USER_ERROR, FAILED = 2, 1
SHOWS = {"--cfg", "--help", "--hydra-help", "--info"}


def main() -> None:
    """`python -m lossbench …` and `lossbench …`."""
    tracebacks = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises rather than prints: what to say is decided here
    if not {"", here := str(Path.cwd())} & set(sys.path):  # the console script, too, finds a loss beside the user
        sys.path.insert(0, here)
    if (cores := machine.cores()) < (os.cpu_count() or 1):  # a quota, of which libraries know nothing when they load
        os.environ.setdefault("OMP_NUM_THREADS", str(cores))
    encoding.lenient()
    arguments = sys.argv[1:]
    try:
        verb, rest = _verb(arguments)
        if verb not in (None, compare.compare):
            verb(rest)
            return
        with redaction.held(rest) as words:
            training = verb(words) if verb else words
            if training is not None:  # `compare` is short for it
                train(training)
                if (tracking := sys.modules.get("lossbench.tracking")) and not tracking.settled():
                    raise SystemExit(FAILED)
    except KeyboardInterrupt:
        signals.ended()
        if comparison := sys.modules.get("lossbench.sweeps.comparison"):
            comparison.end_killed()
        print("stopped: what was recorded until here is kept, and the same command goes on", file=sys.stderr)
        raise SystemExit(signals.STOPPED) from None
    except (Exception, Carried) as error:
        fault = error.args[0] if isinstance(error, Carried) else error
        if tracebacks:
            print(redaction.clean("".join(traceback.format_exception(fault)), *arguments), end="", file=sys.stderr)
            raise SystemExit(FAILED) from None
        raise SystemExit(_say(fault, arguments)) from None


def console() -> None:
    """What the shell calls: `main`, with what only a program that owns its process may do.

    Imports make a million objects that stay: looking through them for cycles again and again is a tenth of a sweep,
    and taking them apart at the end a second.
    """
    signals.heard()
    gc.set_threshold(100_000, 50, 100)
    code = 0
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(bool(end.code))
    _flush()
    signals.over(code)
    atexit._run_exitfuncs()
    _flush()
    os._exit(code)


def _flush() -> None:
    with contextlib.suppress(BrokenPipeError):  # who read it has gone
        sys.stdout.flush()


def _verb(arguments: list[str]) -> tuple[Callable[[list[str]], list[str] | None] | None, list[str]]:
    """The verb of a command line, if it has one, and its other words: options and settings may stand before it."""
    if arguments and arguments[0] in ("help", "--help", "-h"):
        named = commands.COMMANDS.get(arguments[1]) if arguments[1:] else None
        return named, ["--help"]
    if arguments and arguments[0] in ("version", "--version", "-v", "-V"):
        return _version, arguments[1:]
    for place, word in enumerate(arguments):
        if word in commands.COMMANDS and (place == 0 or arguments[place - 1] not in ("--config-dir", "-cd")):
            return commands.COMMANDS[word], [*arguments[:place], *arguments[place + 1 :]]
        bare = not word.startswith(("-", "~")) and "=" not in word
        if bare and (place == 0 or not arguments[place - 1].startswith("-")):
            break
    return None, arguments


def _version(arguments: list[str]) -> None:
    from importlib.metadata import version

    from lossbench import __version__

    others = ", ".join(f"{name} {version(name)}" for name in ("torch", "mlflow", "hydra-core"))
    print(f"lossbench {__version__} ({others})")


def train(arguments: list[str]) -> None:
    """One run, or with -m a comparison."""
    import hydra

    from lossbench.config import choices, error_messages, overrides, schema

    asked = choices.read(arguments)
    choices.one_each(asked)
    places = choices.folders(asked)
    if asked.bare:
        named = partial(choices.chosen_by, places=places)
        raise ConfigError(error_messages.stray(asked.bare, choices.CHOSEN, list(commands.COMMANDS), named))
    if "hydra/sweeper=fair" in asked.settings and not asked.multirun:
        raise ConfigError("hydra/sweeper=fair: without -m it would train once and search nothing; add -m")
    os.environ["LOSSBENCH_SWEEP"] = str(
        cache_folder() / "sweeps" / f"{machine.name()}-{os.getpid()}"
    )  # for its workers, too
    schema.register()
    sys.argv[1:] = overrides.free(choices.deletable(asked, places).words())
    called = hydra.main(version_base="1.3", config_path=str(schema.CONFIGS), config_name="config")(_job)
    with _discreet() if SHOWS & {name for name, _ in asked.options} else contextlib.nullcontext():
        called()


@contextlib.contextmanager
def _discreet() -> Iterator[None]:
    """For what only shows the configuration."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            yield
    finally:
        sys.stdout.write(redaction.clean(said.getvalue()))


def _job(cfg: DictConfig) -> float:
    """What Hydra calls for each run; the primary metric on validation is the sweeper's objective."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    alone = HydraConfig.get().mode == RunMode.RUN
    try:
        return _run(cfg, alone)
    except Exception as error:
        raise (Carried(error) if alone else error) from error


def _run(cfg: DictConfig, alone: bool) -> float:
    from hydra.core.hydra_config import HydraConfig

    from lossbench import terminal, tracking
    from lossbench.config import checks
    from lossbench.runs import training

    names = checks.check_job(cfg, HydraConfig.get())
    result, metrics = training.run(
        cfg, names, terminal.bar, comparison="" if alone else os.environ.get("LOSSBENCH_COMPARISON", "")
    )
    label = f"{names.loss} on {names.dataset}, seed {cfg.seed}"
    console = terminal.out()
    if not alone:
        console.print(f"{label}: {terminal.headline(result)}")
        return result.objective
    if "test" in result.metrics:
        told = "" if result.outcome == "finished" else f": {result.outcome}"
        console.print(terminal.result(result, metrics, f"{label}, step {result.best_step} of {result.steps}{told}"))
    else:
        console.print(f"{label}: {terminal.headline(result)}")
    console.print(f"see it in MLflow: {tracking.ui_command(tracking.resolve(cfg.tracking.uri), result.run_id)}")
    return result.objective


def _say(error: Exception, arguments: list[str]) -> int:
    """Tell what is wrong, in a line or two; the exit code."""
    from lossbench.config import choices, error_messages

    known = error_messages.error_message(error, arguments, lambda: choices.keys(choices.read(arguments)))
    if known is not None:
        print(redaction.clean(f"lossbench: {known}", *arguments), file=sys.stderr)
        return USER_ERROR
    print(redaction.clean(f"lossbench: {type(error).__name__}: {error}", *arguments), file=sys.stderr)
    print("this is a fault of the program or the machine; HYDRA_FULL_ERROR=1 shows where", file=sys.stderr)
    return FAILED


if __name__ == "__main__":
    console()
