"""`check`: whose loss it is, which kinds of problem it is tried on, and what the contract says of it."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from lossbench import catalogue, complaints, settings
from lossbench.build import Unset
from lossbench.contract import entries
from lossbench.contract.calling import Trial, found
from lossbench.contract.clauses import CLAUSES, Finding, Verdict, ask, examine
from lossbench.contract.form import hint
from lossbench.contract.samples import at_random
from lossbench.core import KINDS, BadInput, card_of
from lossbench.faults import said
from lossbench.tasks.adapting import ONE_NUMBER
from lossbench.tasks.calls import ALONE

USAGE = "check my_module.my_loss [kind=…] [setting=value …], or check NAME of the catalogue"
TERMS, NUMBER, OTHER = "terms", "one number", "another shape"
OTHERWISE = "kind=… asks for another"
TAKES = f"takes what these give; {OTHERWISE}"
BY_NAME = {clause.name: clause for clause in CLAUSES}


class Fit(Enum):
    """The answer: what becomes of a loss that is trained with."""

    KEEPS = "keeps the contract"
    TRAINS = "trains, but"
    UNFIT = "does not fit"


@dataclass(frozen=True)
class Answer:
    """Of one kind of problem; `why` says what is lost, or what does not fit."""

    fit: Fit
    why: str = ""

    def __str__(self) -> str:
        return f"{self.fit.value}{': ' * (self.fit is Fit.UNFIT) or ' '}{self.why}".strip()


@dataclass(frozen=True)
class Checked:
    """What was found of a loss: per kind of problem that it was tried on, and why on those; and of its file."""

    name: str
    chosen: str
    findings: Mapping[str, Sequence[Finding]]
    of_file: Sequence[Finding] = ()
    answers: Mapping[str, Answer] = field(default_factory=dict)

    @property
    def unfit(self) -> bool:
        return any(answer.fit is Fit.UNFIT for answer in self.answers.values())

    @property
    def broken(self) -> bool:
        every = [*self.of_file, *(finding for found in self.findings.values() for finding in found)]
        return any(finding.verdict is Verdict.BROKEN for finding in every)


def check(arguments: Sequence[str], folders: Sequence[Path] = (settings.CONFIGS,)) -> Checked:
    """Raises: BadInput for a loss that is not there, and for settings or kinds that it does not have."""
    names, given = [a for a in arguments if "=" not in a], _given([a for a in arguments if "=" in a])
    if len(names) != 1:
        raise BadInput(f"check: wants one loss, and got {len(names)}; {USAGE}")
    _no_file(names[0])
    kind = given.pop("kind", None)
    if kind is not None and kind not in KINDS:
        raise BadInput(f"check: kind={kind}: no such kind of problem; choose {', '.join(KINDS)}")
    entry = None if "." in names[0] else _entry(names[0], folders)
    target = entry.target if entry else names[0]
    loss = found(target)
    _known(loss, target, given)
    trials = {kind: Trial(target, kind, {**(entry.parameters if entry else {}), **given}, loss) for kind in KINDS}
    with warnings.catch_warnings():  # of batches that it was not made for
        warnings.simplefilter("ignore")
        kinds, chosen = _kinds(loss, kind, trials)
        for kind in kinds:
            _refused(trials[kind])
    findings = {kind: examine(trials[kind]) for kind in kinds}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        answers = {kind: _answer(trials[kind], found) for kind, found in findings.items()}
    return Checked(names[0], chosen, findings, entries.examine(entry, loss) if entry and _ours(entry) else (), answers)


def _answer(trial: Trial, findings: Sequence[Finding]) -> Answer:
    """Whether it trains, in the form in which a run would call it, and what that goes without."""
    if not _broken(findings):
        return Answer(Fit.KEEPS)
    try:
        adapted = trial.adapted()
    except BadInput as error:
        return Answer(Fit.UNFIT, str(error))
    except Exception as error:  # whatever a foreign loss does
        return Answer(Fit.UNFIT, f"raised {said(error)}")
    as_called = replace(trial, call=adapted.call, made={})
    broken = _broken(findings if adapted.call == ALONE else examine(as_called))
    for finding in broken:
        if not finding.clause.lost:
            return Answer(Fit.UNFIT, f"{finding.seen}; {finding.mend}")
    notes = [note for note in adapted.notes if note != ONE_NUMBER]
    return Answer(Fit.TRAINS, "; ".join([*notes, *(finding.clause.lost for finding in broken)]))


def _broken(findings: Sequence[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.verdict is Verdict.BROKEN]


def _entry(name: str, folders: Sequence[Path]) -> catalogue.Entry:
    every = {entry.name: entry for entry in catalogue.losses(folders)}
    if name not in every:
        raise BadInput(f"{complaints.missing('loss', name, list(every))}; somebody's own is my_module.my_loss")
    return every[name]


def _no_file(name: str) -> None:
    """Raises: BadInput for a path or a module, where the dotted path of a loss is wanted."""
    module = name.replace(".py:", ":").removesuffix(".py").removeprefix("./").replace("/", ".").replace(":", ".")
    inside = catalogue.public(module)
    if name != module or inside:
        there = "; ".join(f"check {module}.{one}" for one in inside[:3]) or f"check {module}"
        raise BadInput(f"check {name}: wants the dotted path of a loss: {there}")


def _ours(entry: catalogue.Entry) -> bool:
    """Whether its file and its docstring are the catalogue's to keep in order."""
    return (settings.CONFIGS / "loss" / f"{entry.name}.yaml").is_file()


def _given(words: Sequence[str]) -> dict[str, Any]:
    try:
        given: Any = OmegaConf.to_container(OmegaConf.from_dotlist([word.removeprefix("loss.") for word in words]))
    except Exception:  # whatever the parser of values makes of it
        raise BadInput(f"check: {' '.join(words)}: not understood; {USAGE}") from None
    return given


def _known(loss: Any, target: str, given: Mapping[str, Any]) -> None:
    """Raises: BadInput for a setting that the loss does not have."""
    try:
        parameters = inspect.signature(loss).parameters
    except (TypeError, ValueError):  # written in another language
        return
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for name, value in given.items():
        if name not in parameters:
            has = [p.name for p in parameters.values() if p.default is not p.empty]
            raise BadInput(f"check: {name}={value}: {target} has no such setting; it has {', '.join(has) or 'none'}")


def _refused(trial: Trial) -> None:
    """Raises: BadInput where the loss itself refuses its settings."""
    try:
        trial.terms(at_random(trial.kind, trial.heads), trial.players[0])
    except Unset:  # a setting that it has no default for, which its clause names
        return
    except BadInput:
        raise
    except Exception:  # a fault of the loss, which its clause names
        return


def _kinds(loss: Any, kind: str | None, trials: Mapping[str, Trial]) -> tuple[tuple[str, ...], str]:
    """The kinds of problem to try it on, and how they were chosen."""
    card = card_of(loss)
    if card is not None and not {*card.kinds} <= {*KINDS}:
        raise BadInput(f"check: its card says kinds={card.kinds}: choose of {', '.join(KINDS)}")
    if card is not None and kind is not None and kind not in card.kinds:
        raise BadInput(f"check: kind={kind}: its card says {', '.join(card.kinds)}")
    if kind is not None:
        return (kind,), f"{kind}, as asked"
    if card is not None:
        return card.kinds, f"{', '.join(card.kinds)}, as its card says"
    return _guessed(loss, trials)


def _guessed(loss: Any, trials: Mapping[str, Trial]) -> tuple[tuple[str, ...], str]:
    """Those on which it leads to the target, with terms or one number; else those that it nearly takes, or takes."""
    if hasattr(loss, "critic") and hasattr(loss, "generator"):
        return ("gan",), "gan: it has a critic and a generator"
    accepted = {kind: _accepted(trial) for kind, trial in trials.items() if kind != "gan"}
    forms = {kind: _form(trials[kind]) for kind in accepted}
    leads = {kind: how for kind, how in accepted.items() if how and forms[kind] == "" and _leads(trials[kind])}
    adapts = {kind: "adapted" for kind, form in forms.items() if form == "adapted"}
    nearly = {kind: "nearly" for kind, how in accepted.items() if not how and hint(trials[kind], at_random(kind))}
    ways = (
        *((leads, TERMS), (leads, NUMBER), (leads, OTHER), (adapts, "adapted")),
        *((nearly, "nearly"), (accepted, TERMS), (accepted, NUMBER)),
    )
    for among, how in ways:
        if fit := _likely([kind for kind in among if among[kind] == how]):
            close = "nearly " * (how in ("nearly", "adapted"))
            return tuple(fit), f"{', '.join(fit)}: it has no card, and {close}{TAKES}"
    return ("regression",), f"regression: it has no card, and takes no kind's batch; {OTHERWISE}"


def _form(trial: Trial) -> str:
    """Empty for a loss that a run calls as it is, or that no form suits; else whether a form leads to the target."""
    try:
        adapted = trial.adapted()
    except Exception:  # whatever a foreign loss does
        return "astray"
    if adapted.leads is False:
        return "astray"
    return "" if adapted.call == ALONE else "adapted"


def _likely(kinds: list[str]) -> list[str]:
    """Without those whose vectors a loss of classes or masks takes by chance."""
    if "multiclass" in kinds:
        return [kind for kind in kinds if kind not in ("regression", "boxes")]
    return kinds if "regression" in kinds else [kind for kind in kinds if kind != "boxes" or len(kinds) == 1]


def _leads(trial: Trial) -> bool:
    return ask(BY_NAME["descent"], trial).verdict is Verdict.KEPT


def _accepted(trial: Trial) -> str:
    """How it takes a batch; empty where it does not."""
    sample = at_random(trial.kind)
    try:
        given = tuple(trial.terms(sample).shape)
    except Exception:  # whatever a foreign loss does
        return ""
    return {(len(sample),): TERMS, (): NUMBER}.get(given, OTHER)
