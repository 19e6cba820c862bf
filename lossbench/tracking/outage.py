"""Outages: whether an error says that the store is away, and in which words to tell."""

from __future__ import annotations

import re
from collections.abc import Iterator

BUSY = (408, 429)  # what a server answers, beside 500 and more, that it may take later


class Away(ConnectionError):
    """The store has not answered for longer than anybody waits; what is to be recorded is kept where it says."""


def away(error: BaseException) -> bool:
    """Whether the store may take later what it has not taken now; an error of what was asked for is none."""
    from mlflow.exceptions import InvalidUrlException, MlflowException
    from requests.exceptions import HTTPError
    from sqlalchemy import exc

    database = [cause for cause in _causes(error) if isinstance(cause, exc.SQLAlchemyError)]
    if database:
        lost = (exc.OperationalError, exc.InterfaceError, exc.InternalError, exc.TimeoutError)
        return any(isinstance(one, lost) or getattr(one, "connection_invalidated", False) for one in database)
    if isinstance(error, HTTPError) and error.response is not None:
        return _later(error.response.status_code)
    if isinstance(error, MlflowException):
        return not isinstance(error, InvalidUrlException) and _later(error.get_http_status_code())
    return isinstance(error, OSError)  # of the network, or of the disk that has the artifacts


def _later(status: int) -> bool:
    return status >= 500 or status in BUSY


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        yield error
        seen.append(error)
        error = error.__cause__ or error.__context__


def reason(error: BaseException) -> str:
    """What is wrong with the store, without the addresses that libraries say with it."""
    said = str(error)
    short = r"Errno \d+\] [^'\"\n)]+|[Tt]imed out|too many \d+ error|Connection refused|server closed the connection"
    short += r"|the database system is [a-z ]+|database or disk is full|Remote end closed|terminating connection"
    if found := re.search(short, said):
        return found[0].rpartition("] ")[2].strip()
    return f"{type(error).__name__}: {said.strip().splitlines()[0][:80]}" if said.strip() else type(error).__name__
