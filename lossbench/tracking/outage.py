"""Outages: whether an error means that the store is away, and its reason in short."""

from __future__ import annotations

import re
from collections.abc import Iterator

BUSY = (408, 429)  # HTTP statuses, beside 500 and above, after which a request may succeed later


class Away(ConnectionError):
    """The store has not answered for too long; the message says where unrecorded entries wait."""


def away(error: BaseException) -> bool:
    """Whether an error is an outage, after which the same request may succeed; a wrong request is none."""
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
    return isinstance(error, OSError)  # of the network, or of the disk that holds the artifacts


def _later(status: int) -> bool:
    return status >= 500 or status in BUSY


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        yield error
        seen.append(error)
        error = error.__cause__ or error.__context__


def reason(error: BaseException) -> str:
    """What is wrong with the store, without the addresses that libraries put into their messages."""
    message = str(error).strip()
    short = r"Errno \d+\] [^'\"\n)]+|[Tt]imed out|too many \d+ error|Connection refused|server closed the connection"
    short += r"|the database system is [a-z ]+|database or disk is full|Remote end closed|terminating connection"
    if found := re.search(short, message):
        return found[0].rpartition("] ")[2].strip()
    return f"{type(error).__name__}: {message.splitlines()[0][:80]}" if message else type(error).__name__
