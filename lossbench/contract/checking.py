"""`check`: whose loss it is, which task types it is tried on, and what the contract says of it."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from lossbench.config import catalogue, error_messages, schema
from lossbench.config.task_types import TASK_TYPES, accepted, load
from lossbench.contract import entries
from lossbench.contract.calling import Trial, loss_at
from lossbench.contract.clauses import CLAUSES, Finding, Verdict, ask, examine
from lossbench.contract.form import hint
from lossbench.contract.samples import at_random
from lossbench.core import ConfigError, card_of
from lossbench.core.failures import one_line
from lossbench.runs.builders import MissingSettings
from lossbench.tasks.adapting import ONE_NUMBER
from lossbench.tasks.calls import ALONE

USAGE = "check my_module.my_loss [task_type=…] [setting=value …], or check NAME of the catalogue"
PER_EXAMPLE, NUMBER, OTHER = "per-example losses", "one number", "another shape"
OTHERWISE = "task_type=… asks for another"
TAKES = f"takes what these give; {OTHERWISE}"
BY_NAME = {clause.name: clause for clause in CLAUSES}


class Fit(Enum):
    """The answer: what happens if this loss is trained with."""

    PASSES = "passes the contract"
    TRAINS = "trains, but"
    UNFIT = "does not fit"


@dataclass(frozen=True)
class Answer:
    """The answer for one task type; `why` says what is lost, or what does not fit."""

    fit: Fit
    why: str = ""

    def __str__(self) -> str:
        return f"{self.fit.value}{': ' * (self.fit is Fit.UNFIT) or ' '}{self.why}".strip()


@dataclass(frozen=True)
class CheckResult:
    """What `check` found for each task type, and of the loss's file; `chosen` says why these task types."""

    name: str
    chosen: str
    findings: Mapping[str, Sequence[Finding]]
    of_file: Sequence[Finding] = ()
    answers: Mapping[str, Answer] = field(default_factory=dict)

    @property
    def unfit(self) -> bool:
        """Whether the loss does not fit one of the task types."""
        return any(answer.fit is Fit.UNFIT for answer in self.answers.values())

    @property
    def broken(self) -> bool:
        """Whether any clause is broken."""
        every = [*self.of_file, *(finding for found in self.findings.values() for finding in found)]
        return any(finding.verdict is Verdict.BROKEN for finding in every)


def check(arguments: Sequence[str], folders: Sequence[Path] = (schema.CONFIGS,)) -> CheckResult:
    """Check the loss that these arguments name.

    Raises: ConfigError for a loss that is not there, and for settings or task types that it does not have.
    """
    names, settings = [a for a in arguments if "=" not in a], _settings([a for a in arguments if "=" in a])
    if len(names) != 1:
        raise ConfigError(f"check: wants one loss, and got {len(names)}; {USAGE}")
    _check_path(names[0])
    task_type = settings.pop("task_type", None)
    if task_type is not None and task_type not in TASK_TYPES and "." not in str(task_type):
        raise ConfigError(f"check: task_type={task_type}: no such task type; choose {', '.join(TASK_TYPES)}")
    task_types = TASK_TYPES if task_type is None or task_type in TASK_TYPES else (*TASK_TYPES, str(task_type))
    entry = None if "." in names[0] else _entry(names[0], folders)
    target = entry.target if entry else names[0]
    loss = loss_at(target)
    _check_names(loss, target, settings)
    trials = {one: Trial(target, one, {**(entry.parameters if entry else {}), **settings}, loss) for one in task_types}
    with warnings.catch_warnings():  # about batches that it was not written for
        warnings.simplefilter("ignore")
        task_types, chosen = _task_types(loss, task_type, trials)
        for task_type in task_types:
            _check_values(trials[task_type])
    findings = {task_type: examine(trials[task_type]) for task_type in task_types}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        answers = {task_type: _answer(trials[task_type], found) for task_type, found in findings.items()}
    return CheckResult(
        names[0], chosen, findings, entries.examine(entry, loss) if entry and _in_catalogue(entry) else (), answers
    )


def _answer(trial: Trial, findings: Sequence[Finding]) -> Answer:
    """Whether it trains in the form in which a run would call it, and what is lost."""
    if not _broken(findings):
        return Answer(Fit.PASSES)
    try:
        adapted = trial.adapted()
    except ConfigError as error:
        return Answer(Fit.UNFIT, str(error))
    except Exception as error:  # whatever a foreign loss does
        return Answer(Fit.UNFIT, f"raised {one_line(error)}")
    as_called = replace(trial, call=adapted.call, built={})
    broken = _broken(findings if adapted.call == ALONE else examine(as_called))
    for finding in broken:
        if not finding.clause.lost:
            return Answer(Fit.UNFIT, f"{finding.seen}; {finding.fix}")
    notes = [note for note in adapted.notes if note != ONE_NUMBER]
    return Answer(Fit.TRAINS, "; ".join([*notes, *(finding.clause.lost for finding in broken)]))


def _broken(findings: Sequence[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.verdict is Verdict.BROKEN]


def _entry(name: str, folders: Sequence[Path]) -> catalogue.Entry:
    every = {entry.name: entry for entry in catalogue.losses(folders)}
    if name not in every:
        raise ConfigError(f"{error_messages.missing('loss', name, list(every))}; for your own, give my_module.my_loss")
    return every[name]


def _check_path(name: str) -> None:
    """Raises: ConfigError for the path of a file or a module, rather than the dotted path of a loss."""
    module = name.replace(".py:", ":").removesuffix(".py").removeprefix("./").replace("/", ".").replace(":", ".")
    inside = catalogue.public(module)
    if name != module or inside:
        there = "; ".join(f"check {module}.{one}" for one in inside[:3]) or f"check {module}"
        raise ConfigError(f"check {name}: wants the dotted path of a loss: {there}")


def _in_catalogue(entry: catalogue.Entry) -> bool:
    """Whether it is a loss of the catalogue, whose file and docstring are checked too."""
    return (schema.CONFIGS / "loss" / f"{entry.name}.yaml").is_file()


def _settings(words: Sequence[str]) -> dict[str, Any]:
    try:
        settings: Any = OmegaConf.to_container(OmegaConf.from_dotlist([word.removeprefix("loss.") for word in words]))
    except Exception:  # whatever the parser raises
        raise ConfigError(f"check: {' '.join(words)}: not understood; {USAGE}") from None
    return settings


def _check_names(loss: Any, target: str, settings: Mapping[str, Any]) -> None:
    """Raises: ConfigError for a setting that the loss does not have."""
    try:
        parameters = inspect.signature(loss).parameters
    except (TypeError, ValueError):  # written in another language
        return
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for name, value in settings.items():
        if name not in parameters:
            has = [p.name for p in parameters.values() if p.default is not p.empty]
            raise ConfigError(f"check: {name}={value}: {target} has no such setting; it has {', '.join(has) or 'none'}")


def _check_values(trial: Trial) -> None:
    """Raises: ConfigError where the loss itself refuses its settings."""
    try:
        trial.per_example(at_random(trial.task_type, trial.outputs_per_target), trial.players[0])
    except MissingSettings:  # a setting that it has no default for, which its clause names
        return
    except ConfigError:
        raise
    except Exception:  # a fault of the loss, which its clause names
        return


def _task_types(loss: Any, task_type: str | None, trials: Mapping[str, Trial]) -> tuple[tuple[str, ...], str]:
    """The task types to try it on, and how they were chosen."""
    card = card_of(loss)
    if card is not None and task_type is not None and set(accepted(task_type)).isdisjoint(card.task_types):
        raise ConfigError(f"check: task_type={task_type}: its card says {', '.join(card.task_types)}")
    if card is not None and task_type in (None, *TASK_TYPES) and not {*card.task_types} <= {*TASK_TYPES}:
        known = ", ".join(TASK_TYPES)
        raise ConfigError(
            f"check: its card says task_types={card.task_types}: choose of {known}, or give task_type=my_module.MyTask"
        )
    if task_type is not None:
        return (task_type,), f"{task_type}, as asked"
    if card is not None:
        return card.task_types, f"{', '.join(card.task_types)}, as its card says"
    return _guess_task_types(loss, trials)


def _guess_task_types(loss: Any, trials: Mapping[str, Trial]) -> tuple[tuple[str, ...], str]:
    """Task types on which descent leads to the target; else those whose batch it nearly takes, or takes."""
    for task_type, trial in trials.items():
        if len(trial.players) > 1 and all(hasattr(loss, player) for player in trial.players):
            return (task_type,), f"{task_type}: it has a {' and a '.join(trial.players)}"
    taken = {task_type: _output_form(trial) for task_type, trial in trials.items() if len(trial.players) == 1}
    forms = {task_type: _form(trials[task_type]) for task_type in taken}
    leads = {
        task_type: result
        for task_type, result in taken.items()
        if result and forms[task_type] == "" and _leads(trials[task_type])
    }
    adapts = {task_type: "adapted" for task_type, form in forms.items() if form == "adapted"}
    nearly = {
        task_type: "nearly"
        for task_type, result in taken.items()
        if not result and hint(trials[task_type], at_random(task_type))
    }
    ranked = (
        *((leads, PER_EXAMPLE), (leads, NUMBER), (leads, OTHER), (adapts, "adapted")),
        *((nearly, "nearly"), (taken, PER_EXAMPLE), (taken, NUMBER)),
    )
    for among, result in ranked:
        if fit := _likely([task_type for task_type in among if among[task_type] == result]):
            close = "nearly " * (result in ("nearly", "adapted"))
            return tuple(fit), f"{', '.join(fit)}: it has no card, and {close}{TAKES}"
    return TASK_TYPES[:1], f"{TASK_TYPES[0]}: it has no card, and takes no task type's batch; {OTHERWISE}"


def _form(trial: Trial) -> str:
    """Whether another form leads to the target: `adapted` or `astray`.

    Empty for a loss that a run calls as it is, also where no form suits it.
    """
    try:
        adapted = trial.adapted()
    except Exception:  # whatever a foreign loss does
        return "astray"
    if adapted.leads is False:
        return "astray"
    return "" if adapted.call == ALONE else "adapted"


def _likely(task_types: list[str]) -> list[str]:
    """These task types without those whose batches a loss of classes or masks takes by chance."""
    chance = {one for task_type in task_types for one in load(task_type).by_chance}
    left = [task_type for task_type in task_types if task_type not in chance]
    return [task_type for task_type in left if len(left) == 1 or load(task_type).only_with in ("", *left)]


def _leads(trial: Trial) -> bool:
    return ask(BY_NAME["descent"], trial).verdict is Verdict.KEPT


def _output_form(trial: Trial) -> str:
    """What it returns on a batch; empty where it fails."""
    sample = at_random(trial.task_type)
    try:
        shape = tuple(trial.per_example(sample).shape)
    except Exception:  # whatever a foreign loss does
        return ""
    return {(len(sample),): PER_EXAMPLE, (): NUMBER}.get(shape, OTHER)
