"""One trial: a command is disturbed, given again until it ends well, and its store is looked at."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from faults import held, server
from faults.disturb import Disturbance, Moment
from faults.held import Record
from faults.server import Command
from faults.stores import Place

PATIENCE_S = 300.0  # until a command counts as hung
REPEATS = 4
REST_S = 30.0  # until nobody takes a process of another container for one that goes on
CONTAINER = (
    "unshare",
    "--pid",
    "--fork",
    "--mount-proc",
    "--uts",
    "--kill-child",
    "sh",
    "-c",
    'hostname $0 && exec "$@"',
)
PAGE = "report.html"
END = "</html>"
TRACE = "Traceback (most recent call last)"
OLD = "<html>an older report</html>\n"


@dataclass(frozen=True)
class Reference:
    """An undisturbed command: how long it took, what it left and where."""

    seconds: float
    records: list[Record]
    folder: Path
    crowd: int = 1  # processes that it had at once


@dataclass
class Trial:
    """A command in its folder; it starts `forked`, `started` from nothing, or so in a `container`."""

    words: Sequence[str]
    folder: Path
    place: Place
    how: str
    eager: bool = False
    commands: list[Command] = field(default_factory=list)

    @property
    def alone(self) -> bool:
        """Whether it trains one run, which is then held to be the same to the last bit."""
        return "-m" not in self.words

    @property
    def reports(self) -> bool:
        return self.words[0] == "report"

    @property
    def experiment(self) -> str:
        """One of its own where trials share a store."""
        return self.folder.name if self.place.artifacts else "faults"

    def start(self, host: str = "here") -> Command:
        """The command, once more."""
        named = () if self.reports else (f"experiment_name={self.experiment}",)
        words = [*self.words, *named, *self.place.words]
        environment = {"LOSSBENCH_CACHE": str(self.folder / "cache")}
        out = self.folder / f"said{len(self.commands)}"
        if self.how == "forked":
            command = server.forked(words, self.place.folder, environment, out, self.eager)
        else:
            before = (*CONTAINER, host) if self.how == "container" else ()
            command = server.started(words, self.place.folder, environment, out, before)
        self.commands.append(command)
        return command

    def found(self) -> list[Record]:
        return held.records(self.place.uri, self.experiment, self.place.artifacts)

    def undisturbed(self) -> Reference:
        """Raises: RuntimeError where even that fails."""
        command, crowd = self.start(), 1
        while (code := command.wait(0.2)) is None:
            crowd = max(crowd, len(command.everyone()))
        if code != 0:
            raise RuntimeError(f"undisturbed, the command ends with {code}: {self.said()}")
        return Reference(command.seconds, self.found(), self.place.folder, crowd)

    def disturbed(
        self, disturbance: Disturbance, moment: Moment, random: Random, reference: Reference
    ) -> tuple[bool, int, list[str]]:
        """Whether the command was hit, the last exit code, and everything that is wrong in the end."""
        if disturbance.before:
            disturbance.before(self.place.way)
        command, hit = self.start(), True
        if not disturbance.before and (hit := moment.reached(command, self.folder)):
            disturbance.act(command, self.place, random)
        code = self._ended(command)
        self.place.mend()
        reasons = self._torn(reference) if code != 0 else []
        for _ in range(REPEATS):
            if code == 0 or self._done():
                break
            if self.how == "container":
                time.sleep(REST_S)
            code = self._ended(self.start(disturbance.host))
        if code != 0 and not self._done():
            reasons.append(f"still exit code {code}: {self.said()}")
        return hit, code, reasons + self._wrong(reference)

    def _ended(self, command: Command) -> int:
        code = command.wait(PATIENCE_S)
        if code is None:
            command.signal(signal.SIGKILL, everyone=True)
            return command.wait(PATIENCE_S) or -1
        return code

    def _done(self) -> bool:
        """Whether nothing is left to ask for, since the record was whole when the command was hit."""
        wanted = "run" if self.alone else "comparison"
        return not self.reports and any(one.kind == wanted and one.status == "FINISHED" for one in self.found())

    def _torn(self, reference: Reference) -> list[str]:
        if self.reports:
            return self._page(OLD)
        return held.torn(reference.records, self.found(), exact=self.alone)

    def _wrong(self, reference: Reference) -> list[str]:
        found = self.found()
        twice = self.alone and self.place.way is not None  # whole, yet not where the command could know of it
        reasons = held.wrong(reference.records, found, exact=self.alone, again=twice)
        reasons += self._page() if self.reports else []
        reasons += [
            f"{said.name} has a traceback" for said in self.folder.glob("said*.err") if TRACE in said.read_text()
        ]
        if reasons:
            (self.folder / "found.json").write_text(json.dumps(held.dumped(found), indent=1), encoding="utf-8")
        return reasons

    def _page(self, *others: str) -> list[str]:
        page = (self.place.folder / PAGE).read_text(encoding="utf-8")
        return [] if page in others or page.rstrip().endswith(END) else [f"{PAGE} is cut short"]

    def said(self) -> str:
        """The last line on standard error of the last command."""
        lines = (self.folder / f"said{len(self.commands) - 1}.err").read_text(encoding="utf-8").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def close(self) -> None:
        """End whatever still runs."""
        for command in self.commands:
            command.signal(signal.SIGKILL, everyone=True)
            command.wait(10)


def prepared(folder: Path, reference: Reference) -> None:
    """A store with a finished comparison, and a report of an earlier one."""
    for file in reference.folder.glob("mlflow.db*"):  # what is not in the file yet lies beside it
        shutil.copy(file, folder)
    (folder / PAGE).write_text(OLD, encoding="utf-8")
