"""One call of Hydra in this process: a multirun or a run, as the command line makes it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lossbench.api.guard import undisturbed
from lossbench.config import choices, redaction
from lossbench.config.error_messages import Carried, error_message
from lossbench.core import ConfigError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from lossbench.analysis.report import Report
    from lossbench.core import Metric, Result
    from lossbench.tracking import Store

CONTINUES = "stopped: what was recorded is kept, and the same call continues"


def compared(words: Sequence[str], *, silent: bool) -> tuple[Report, str, Exception | None]:
    """The report on the comparison of these words, `compare`'s, the address of its store, and the first run's error.

    Raises: ConfigError for words that cannot work; the error of a run, where no run has a result.
    """
    found: list[tuple[Store, Report]] = []
    error: Exception | None = None
    with opened(words, silent=silent):
        from lossbench.config import comparing
        from lossbench.sweeps import comparison, concluding

        with concluding.shown_by(lambda store, report: found.append((store, report))):
            try:
                _multirun(comparing.words(choices.read(list(words))))
            except Exception as raised:
                if not found:
                    raise
                error = raised
            except SystemExit as end:  # the report failed, which was printed
                raise RuntimeError("the report on the comparison failed; the same call tries again") from end
            finally:
                comparison.end_killed()  # if it is still open
    if not found:
        raise ConfigError("nothing to report: no run got as far as its data and its model")
    store, report = found[-1]
    return report, store.uri, error


def trained(words: Sequence[str], *, silent: bool) -> tuple[Result, Sequence[Metric], str]:
    """The result of one run, its metrics, and the address of its store. Raises: ConfigError; the error of the run."""
    found: list[tuple[Any, Any, str]] = []

    def job(cfg: DictConfig) -> float:
        try:
            found.append(_run(cfg))
        except Exception as error:  # Hydra would print it
            raise Carried(error) from error
        return float(found[-1][0].objective)

    with opened(words, silent=silent):
        _hydra(list(words), lambda hydra, settings: hydra.run("config", job, settings, False), "RUN")
        from lossbench import tracking

        tracking.settled()
    return found[0]


def job(cfg: DictConfig) -> float:
    """One job of a multirun under another launcher than ours."""
    return float(_run(cfg)[0].objective)


@contextmanager
def opened(words: Sequence[str], *, silent: bool) -> Iterator[None]:
    """Inside, errors of Hydra become ConfigErrors."""
    from lossbench import terminal

    with undisturbed(words), terminal.quiet(silent):
        if own := sys.modules.get("lossbench.datasets.own"):
            own.forget()
        try:
            yield
        except KeyboardInterrupt:
            if not silent:
                print(CONTINUES, file=sys.stderr)
            raise
        except ConfigError:
            raise
        except (Exception, Carried) as error:
            fault: Exception = error.args[0] if isinstance(error, Carried) else error
            if isinstance(fault, ConfigError):
                raise fault from None
            message = error_message(fault, list(words), lambda: choices.keys(choices.read(_simple(words))))
            if message is not None:
                raise ConfigError(redaction.clean(message, *words)) from None
            raise fault from None


def _simple(words: Sequence[str]) -> list[str]:
    """The words whose values are names, so that the settings that exist can be looked up."""
    return [word for word in words if word.partition("=")[2].replace("_", "").isalnum()]


def _multirun(words: list[str]) -> None:
    _hydra(words, lambda hydra, settings: hydra.multirun("config", job, settings, False), "MULTIRUN")


def _hydra(words: list[str], call: Callable[[Any, list[str]], Any], mode: str) -> None:
    from hydra import version
    from hydra._internal.hydra import Hydra
    from hydra._internal.utils import create_config_search_path
    from hydra.core.global_hydra import GlobalHydra

    from lossbench.config import launching, schema

    version.setbase("1.3")
    with redaction.held(words) as held:
        parsed = choices.read(held)
        choices.one_each(parsed)
        settings = [word for word in launching.prepared(parsed) if not word.startswith("-")]
        sys.argv[1:] = [*(["-m"] if mode == "MULTIRUN" else []), *settings]
        hydra = Hydra.create_main_hydra2("lossbench", create_config_search_path(str(schema.CONFIGS)))
        try:
            call(hydra, [*settings, f"hydra.mode={mode}"])
        finally:
            GlobalHydra.instance().clear()


def _run(cfg: DictConfig) -> tuple[Result, Sequence[Metric], str]:
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from lossbench import terminal, tracking
    from lossbench.config import checks
    from lossbench.runs import training
    from lossbench.sweeps import comparison

    names = checks.check_job(cfg, HydraConfig.get())
    alone = HydraConfig.get().mode == RunMode.RUN
    name = "" if alone else comparison.current()[1]
    result, metrics = training.run(cfg, names, terminal.bar, comparison=name, say=terminal.out().print)
    return result, metrics, tracking.resolve(cfg.tracking.uri)
