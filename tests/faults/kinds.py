"""The kinds of trials of a campaign, and the campaign."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

from faults import disturb, server, stores, trials
from faults.disturb import AIMED_S, Disturbance, Moment
from faults.stores import Stores
from faults.trials import Reference, Trial

SMALL = ("dataset.train=200", "dataset.validation=100", "dataset.test=100")
COMMANDS: dict[str, tuple[str, ...]] = {
    "mlp": (*SMALL, "optimizer=adamw", "train.schedule=cosine", "train.steps=1600", "train.eval_every=100"),
    "gan": (
        *("dataset=gan", "dataset.source=ring", "dataset.examples=300", "model.hidden=[8]"),
        *("train.steps=600", "train.eval_every=60"),
    ),
    "sweep": ("-m", *SMALL, "loss=mse,mae,huber", "seed=range(2)", "train.steps=1000", "train.eval_every=100"),
    "fair": (
        *("-m", "hydra/sweeper=fair", "hydra.sweeper.trials=3", *SMALL),
        *("loss=mse,huber", "seed=range(2)", "train.steps=400", "train.eval_every=80"),
    ),
    "workers": (
        *("-m", "dataset=translation", "dataset.train=300", "dataset.validation=100", "dataset.test=100"),
        *("model.width=16", "model.layers=1", "seed=range(4)", "train.steps=60", "train.eval_every=10"),
    ),
    "report": ("report",),
}
SIGHTS = (
    "here/mlflow.db-wal",
    "here/mlruns/*/*/artifacts/config.yaml",
    "here/mlruns/*/*/artifacts/model.safetensors",
    "here/mlruns/*/*/artifacts/pictures/*",
    "here/mlruns/*/*/artifacts/report.html",
    "here/report.html",
    "cache/checkpoints/*",
)
VERDICTS = ("held", "lost", "silent", "skipped")
DRAWS = 4  # of a moment, each earlier, until one comes before the command's end


@dataclass(frozen=True)
class Kind:
    """Which commands are disturbed by what; `weight` is a kind's share of a campaign."""

    weight: int
    commands: tuple[str, ...]
    disturbances: Mapping[str, Disturbance]
    place: str = "sqlite"
    how: str = "forked"
    sights: tuple[str, ...] = ()


KINDS = {
    "run": Kind(16, ("mlp", "gan"), disturb.SIGNALS, sights=SIGHTS),
    "sweep": Kind(14, ("sweep",), disturb.SIGNALS, sights=SIGHTS),
    "fair": Kind(10, ("fair",), disturb.SIGNALS, sights=(*SIGHTS, "here/tuning.db*")),
    "workers": Kind(6, ("workers",), disturb.SIGNALS, sights=SIGHTS),
    "report": Kind(6, ("report",), disturb.SIGNALS, sights=("here/report.html*",)),
    "create": Kind(12, ("mlp", "sweep"), disturb.SIGNALS, place="nothing", sights=("here/*.db*",)),
    "start": Kind(6, ("mlp", "sweep"), disturb.SIGNALS, how="started"),
    "disk": Kind(6, ("mlp", "sweep"), disturb.FULL, place="disk"),
    "server": Kind(8, ("mlp", "sweep"), disturb.OUTAGES, place="server"),
    "errors": Kind(6, ("mlp", "sweep"), disturb.ERRORS, place="faulty_server"),
    "postgresql": Kind(8, ("mlp", "sweep"), disturb.OUTAGES | disturb.LOSSES, place="postgresql"),
    "containers": Kind(4, ("sweep", "mlp"), disturb.CONTAINERS, how="container"),
}


@dataclass(frozen=True)
class Outcome:
    """How a trial ended: held, lost, silent (not held though the command ended with 0) or skipped; and why."""

    kind: str
    number: int
    what: str
    verdict: str
    reasons: Sequence[str] = ()
    folder: Path | None = None

    def __str__(self) -> str:
        told = "; ".join([*self.reasons[:3], *(["…"] if self.reasons[3:] else [])])
        return f"{self.kind} {self.number}: {self.verdict}: {self.what}: {told}"


def spread(trials: int, only: str | None) -> list[tuple[str, int]]:
    """So many trials, shared among the kinds by their weights, in an order that mixes them."""
    if only:
        return [(only, number) for number in range(trials)]
    whole = sum(kind.weight for kind in KINDS.values())
    counts = {name: max(1, round(trials * kind.weight / whole)) for name, kind in KINDS.items()}
    places = [((number + 0.5) / count, name, number) for name, count in counts.items() for number in range(count)]
    return [(name, number) for _, name, number in sorted(places)]


def rows(outcomes: Sequence[Outcome]) -> list[list[str]]:
    """How many trials of each kind, and of all, ended in which way."""
    counted = {name: Counter(one.verdict for one in outcomes if one.kind == name) for name in KINDS}
    counted |= {"all": sum(counted.values(), Counter())}
    return [
        [name, str(counts.total()), *(str(counts[verdict]) for verdict in VERDICTS)]
        for name, counts in counted.items()
        if counts
    ]


class Campaign:
    """Trials under one seed, each in a folder of its own below `base`, which stays where it does not hold."""

    def __init__(self, base: Path, seed: int) -> None:
        self.base, self.seed = base, seed
        self.stores = Stores(base)
        self._references: dict[tuple[str, ...], Future[Reference]] = {}
        self._lock = threading.Lock()
        self._more = ("train.checkpoint_s=0.2",) if "checkpoint_s:" in self._asked("--cfg", "job") else ()

    def close(self) -> None:
        self.stores.close()

    def trial(self, name: str, number: int) -> Outcome:
        """One trial, whatever comes of it."""
        try:
            return self._trial(name, number)
        except Exception as error:  # of the campaign itself, whose other trials go on
            return Outcome(name, number, "", "lost", [f"{type(error).__name__}: {error}"])

    def _trial(self, name: str, number: int) -> Outcome:
        kind, random = KINDS[name], Random(f"{self.seed} {name} {number}")
        disturbed = list(kind.disturbances)
        what = disturbed[number % len(disturbed)]
        command = kind.commands[number // len(disturbed) % len(kind.commands)]
        if lack := stores.missing(kind.place) or (_contained() if kind.how == "container" else ""):
            return Outcome(name, number, what, "skipped", [lack])
        reference = self._reference(kind, command)
        if name == "workers" and reference.crowd < 3:
            return Outcome(name, number, what, "skipped", ["no workers are faster here"])
        aimed = kind.sights and random.random() < 0.5
        for draw in range(DRAWS):
            moment = Moment(reference.seconds * random.uniform(0.0, 0.8**draw))
            if aimed and draw == 0:
                moment = Moment(random.uniform(0.0, AIMED_S), random.choice(kind.sights))
            with self._in(self.base / f"{name}-{number}-{draw}", kind, command, random) as trial:
                if command == "report":
                    trials.prepared(trial.place.folder, reference)
                hit, code, reasons = trial.disturbed(kind.disturbances[what], moment, random, reference)
            if hit or reasons:
                break
            shutil.rmtree(trial.folder)
        told = f"{command}, {what}" + (f" at {moment}" if not kind.disturbances[what].before else "")
        if not reasons:
            shutil.rmtree(trial.folder, ignore_errors=True)
            return Outcome(name, number, told, "held")
        return Outcome(name, number, told, "lost" if code else "silent", reasons, trial.folder)

    @contextmanager
    def _in(self, folder: Path, kind: Kind, command: str, random: Random) -> Iterator[Trial]:
        """A trial in an empty folder, where all that it started ends."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        words = (*COMMANDS[command], *(() if command == "report" else self._more))
        with self.stores.place(kind.place, folder, random) as place:
            trial = Trial(words, folder, place, kind.how, eager=command == "workers")
            try:
                yield trial
            finally:
                trial.close()

    def _reference(self, kind: Kind, command: str) -> Reference:
        """Of this command, recording where and starting as it does; made once, by whoever asks first."""
        with self._lock:
            key = (kind.place, kind.how, command)
            mine = key not in self._references
            future = self._references.setdefault(key, Future())
        if mine:
            try:
                future.set_result(self._made(kind, command))
            except BaseException as error:
                future.set_exception(error)
        return future.result()

    def _made(self, kind: Kind, command: str) -> Reference:
        folder = self.base / f"reference-{kind.place}-{kind.how}-{command}"
        before = self._reference(KINDS["sweep"], "sweep") if command == "report" else None
        with self._in(folder, kind, command, Random(0)) as trial:
            trial.place.mend()
            if before:
                trials.prepared(trial.place.folder, before)
            return trial.undisturbed()

    def _asked(self, *words: str) -> str:
        """What a command prints."""
        out = self.base / "asked"
        code = server.forked(words, self.base, {}, out).wait(trials.PATIENCE_S)
        if code != 0:
            raise RuntimeError(Path(f"{out}.err").read_text(encoding="utf-8"))
        return Path(f"{out}.out").read_text(encoding="utf-8")


@cache
def _contained() -> str:
    """Why no command can run in a container of its own; empty where one can."""
    words = [*trials.CONTAINER, "here", "true"]
    return "" if subprocess.run(words, capture_output=True, check=False).returncode == 0 else "no namespaces to be had"
