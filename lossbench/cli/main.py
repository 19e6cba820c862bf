"""The command line: Hydra for training, and a few commands. Torch and MLflow are imported only to train."""

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

from lossbench.cli import commands, compare, detached
from lossbench.config import redaction
from lossbench.config.arguments import JOIN
from lossbench.config.error_messages import Carried
from lossbench.config.launching import JOINED
from lossbench.core import ConfigError, machine
from lossbench.runs import signals
from lossbench.terminal import encoding

if TYPE_CHECKING:
    from omegaconf import DictConfig

USER_ERROR, FAILED = 2, 1
DISPLAY_OPTIONS = {"--cfg", "--help", "--hydra-help", "--info"}  # print something and train nothing


def main() -> None:
    """Run the command line `python -m lossbench …`; exit with 2 for errors of the user."""
    tracebacks = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises rather than prints: errors are printed here
    if not {"", folder := str(Path.cwd())} & set(sys.path):  # so that the console script finds the user's modules
        sys.path.insert(0, folder)
    if (cores := machine.cores()) < (os.cpu_count() or 1):  # a quota, which libraries ignore
        os.environ.setdefault("OMP_NUM_THREADS", str(cores))
    encoding.lenient()
    arguments = sys.argv[1:]
    try:
        command, rest = _command(arguments)
        if command not in (None, compare.compare, detached.submit):
            command(rest)
            return
        with redaction.held(rest) as words:
            training = command(words) if command else words
            if training is not None:  # `compare` returns the arguments of a multirun
                train(training)
                if (tracking := sys.modules.get("lossbench.tracking")) and not tracking.settled():
                    raise SystemExit(FAILED)
    except KeyboardInterrupt:
        signals.cancel_forced_exit()
        if comparison := sys.modules.get("lossbench.sweeps.comparison"):
            comparison.end_killed()
        print("stopped: what was recorded is kept, and the same command continues", file=sys.stderr)
        raise SystemExit(signals.STOPPED) from None
    except (Exception, Carried) as error:
        fault = error.args[0] if isinstance(error, Carried) else error
        if tracebacks:
            print(redaction.clean("".join(traceback.format_exception(fault)), *arguments), end="", file=sys.stderr)
            raise SystemExit(FAILED) from None
        raise SystemExit(_print_error(fault, arguments)) from None


def console() -> None:
    """The entry point of the shell: `main`, with signals, garbage collection and exit of the whole process.

    Imports make a million objects that stay: repeated searches for cycles among them take a tenth of a sweep, and
    their destruction at the end takes a second.
    """
    signals.exit_on_signals()
    gc.set_threshold(100_000, 50, 100)
    code = 0
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(bool(end.code))
    _flush()
    signals.exit_with(code)
    atexit._run_exitfuncs()
    _flush()
    os._exit(code)


def _flush() -> None:
    with contextlib.suppress(BrokenPipeError):  # the reader has closed the pipe
        sys.stdout.flush()


def _command(arguments: list[str]) -> tuple[Callable[[list[str]], list[str] | None] | None, list[str]]:
    """The command of a command line, if any, and the other words; options and settings may come before it."""
    if arguments and arguments[0] in ("help", "--help", "-h"):
        command = commands.COMMANDS.get(arguments[1]) if arguments[1:] else None
        return command, ["--help"]
    if arguments and arguments[0] in ("version", "--version", "-v", "-V"):
        return _version, arguments[1:]
    for index, word in enumerate(arguments):
        if word in commands.COMMANDS and (index == 0 or arguments[index - 1] not in ("--config-dir", "-cd")):
            return commands.COMMANDS[word], [*arguments[:index], *arguments[index + 1 :]]
        bare = not word.startswith(("-", "~")) and "=" not in word
        if bare and (index == 0 or not arguments[index - 1].startswith("-")):
            break
    return None, arguments


def _version(arguments: list[str]) -> None:
    from importlib.metadata import version

    from lossbench import __version__

    others = ", ".join(f"{name} {version(name)}" for name in ("torch", "mlflow", "hydra-core"))
    print(f"lossbench {__version__} ({others})")


def train(arguments: list[str]) -> None:
    """Train one run, or with -m a comparison. Raises: ConfigError for arguments that cannot work."""
    import hydra

    from lossbench.config import choices, error_messages, launching, schema

    parsed = choices.read(arguments)
    choices.one_each(parsed)
    folders = choices.folders(parsed)
    if parsed.bare:
        chosen_by = partial(choices.chosen_by, places=folders)
        raise ConfigError(error_messages.stray(parsed.bare, choices.CHOSEN, list(commands.COMMANDS), chosen_by))
    if "hydra/sweeper=fair" in parsed.settings and not parsed.multirun:
        raise ConfigError("hydra/sweeper=fair: searches only in a multirun; add -m")
    sys.argv[1:] = launching.prepared(parsed)
    job = hydra.main(version_base="1.3", config_path=str(schema.CONFIGS), config_name="config")(_job)
    with _redacted_output() if DISPLAY_OPTIONS & {name for name, _ in parsed.options} else contextlib.nullcontext():
        job()


@contextlib.contextmanager
def _redacted_output() -> Iterator[None]:
    """Redact passwords in what is printed to standard output while entered."""
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output):
            yield
    finally:
        sys.stdout.write(redaction.clean(output.getvalue()))


def _job(cfg: DictConfig) -> float:
    """Run one job of Hydra; returns the primary metric on validation, the sweeper's objective."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    alone = HydraConfig.get().mode == RunMode.RUN
    if alone and (joined := os.environ.get(JOINED)):
        raise Carried(ConfigError(f"{JOIN} {joined}: is of many runs; begin with compare, or add -m"))
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
        suffix = "" if result.outcome == "finished" else f": {result.outcome}"
        console.print(terminal.result(result, metrics, f"{label}, step {result.best_step} of {result.steps}{suffix}"))
    else:
        console.print(f"{label}: {terminal.headline(result)}")
    console.print(f"see it in MLflow: {tracking.ui_command(tracking.resolve(cfg.tracking.uri), result.run_id)}")
    return result.objective


def _print_error(error: Exception, arguments: list[str]) -> int:
    """Print an error in one or two lines; returns the exit code."""
    from lossbench.config import choices, error_messages

    message = error_messages.error_message(error, arguments, lambda: choices.keys(choices.read(arguments)))
    if message is not None:
        print(redaction.clean(f"lossbench: {message}", *arguments), file=sys.stderr)
        return USER_ERROR
    print(redaction.clean(f"lossbench: {type(error).__name__}: {error}", *arguments), file=sys.stderr)
    print("this is an error of the program or the machine; HYDRA_FULL_ERROR=1 shows where", file=sys.stderr)
    return FAILED


if __name__ == "__main__":
    console()
