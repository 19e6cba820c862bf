"""Spools: files of entries that wait for a store, each locked by the process that writes it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from lossbench.tracking.entries import Entry

BOUND = 2 << 30  # bytes that a spool may hold


class Spool:
    """A file of entries, one per line after a checksum, and a folder of the artifacts that they name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes = 0
        self._files = path.with_suffix(".files")
        self._lock = FileLock(path.with_suffix(".lock"), timeout=0)
        self._open: BinaryIO | None = None

    @classmethod
    def new(cls, folder: Path) -> Spool:
        """A spool under a new name; its file is made with the first entry."""
        return cls(folder / f"{time.time_ns()}-{os.getpid()}-{secrets.token_hex(4)}.jsonl")

    def add(self, entry: Entry) -> Entry:
        """Append an entry and copy its artifacts; returns the entry that names the copies.

        Raises: OSError where it cannot be written; nothing is appended then.
        """
        if self._open is None:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock.acquire()
            self._open = self.path.open("ab", buffering=0)
        if entry["do"] == "files" and Path(entry["folder"]).parent != self._files:
            entry = {**entry, "folder": str(self._copied(Path(entry["folder"])))}
        line = json.dumps({**entry, **({"folder": Path(entry["folder"]).name} if "folder" in entry else {})}).encode()
        line = b"%08x %b\n" % (zlib.crc32(line), line)
        end = self._open.tell()
        try:
            if self._open.write(line) < len(line):
                raise OSError(f"{self.path}: only partly written")
        except OSError:
            self._open.truncate(end)
            raise
        self.bytes += len(line)
        return entry

    def _copied(self, folder: Path) -> Path:
        copy = self._files / secrets.token_hex(4)
        try:
            shutil.copytree(folder, copy)
        except (OSError, shutil.Error) as error:
            shutil.rmtree(copy, ignore_errors=True)
            raise OSError(str(error)) from error
        self.bytes += sum(file.stat().st_size for file in copy.rglob("*") if file.is_file())
        return copy

    def entries(self) -> tuple[list[Entry], int]:
        """The entries in order, and how many lines cannot be read; a last line that a kill cut off is skipped."""
        found, damaged = [], 0
        lines = self.path.read_bytes().split(b"\n")
        for line in lines[:-1]:
            check, _, text = line.partition(b" ")
            try:
                if int(check, 16) != zlib.crc32(text):
                    raise ValueError
                entry = json.loads(text)
                if "folder" in entry:
                    entry["folder"] = str(self._files / Path(entry["folder"]).name)
            except ValueError:
                damaged += 1
            else:
                found.append(entry)
        return found, damaged

    def end(self, *, keep: bool = False) -> Path:
        """Delete the spool, since its entries are recorded; or keep it under a name that is not replayed.

        Returns the path of a file that is kept.
        """
        if self._open is not None:
            self._open.close()
        refused_path = self.path.with_suffix(".refused")
        with contextlib.suppress(OSError):  # its entries are then written twice, which changes nothing
            if keep:
                self.path.replace(refused_path)
            else:
                self.path.unlink(missing_ok=True)
                shutil.rmtree(self._files, ignore_errors=True)
        self.release()
        return refused_path

    def release(self) -> None:
        """Unlock the spool."""
        with contextlib.suppress(OSError):
            self.path.with_suffix(".lock").unlink(missing_ok=True)
        self._lock.release()

    @classmethod
    def orphans(cls, folder: Path) -> Iterator[Spool]:
        """The spools of processes that are gone, the oldest first, each locked until it is released."""
        for path in sorted(folder.glob("*.jsonl")):
            spool = cls(path)
            try:
                spool._lock.acquire()
            except (Timeout, OSError):
                continue
            if path.exists():  # or else another process has just recorded it
                yield spool
            else:
                spool.release()
