"""Credentials in addresses: hidden in all output, and passed to Hydra by the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, quote_plus, unquote, unquote_plus

HIDDEN = "…"
HELD = {"tracking.uri": "MLFLOW_TRACKING_URI", "hydra.sweeper.storage": "LOSSBENCH_STORAGE"}
"""Settings that are addresses, and the environment variable that holds one with secrets."""

WHOLE = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "PGPASSWORD")  # secrets as they stand
SECRET = re.compile(
    r"passw|passphrase|pwd|token|secret|signature|credential|api_?key|^auth|(^|[-_.])(key|sig)$|odbc_connect", re.I
)
"""Names of parts of an address whose values are secret."""

SETTING = re.compile(r"password|passwd|secret|(access_|auth_|api_|hf_)?token|(api|access|secret)_key", re.I)
"""The same for settings; those of models, such as `class_token`, are not secret."""

SHORT = 3  # characters: anything shorter is part of too many words
PART = 4  # the same for a part of a secret, which a program may show that parses the address wrongly


def redacted(address: str) -> str:
    """An address, a setting or a text that ends in one, without passwords and tokens."""
    parts, position = [], 0
    for start, end in _secrets(address):
        if end > position:  # they may overlap
            parts += [address[position:start], HIDDEN] if start >= position else []
            position = end
    return "".join([*parts, address[position:]])


def clean(text: str, *addresses: str) -> str:
    """A text, such as another library's error, without the secrets of these addresses and of the environment.

    Secrets are removed in any spelling, and also from whatever else in the text looks like an address.
    """
    known = (*addresses, *(os.environ.get(name, "") for name in HELD.values()))
    secrets = [address[start:end] for address in known for start, end in _secrets(address)]
    secrets += [os.environ.get(name, "") for name in WHOLE]
    for spelling in sorted({form for secret in secrets for form in _spellings(secret)}, key=len, reverse=True):
        text = text.replace(spelling, HIDDEN)
    return re.sub(r"\w[\w+.-]*://[^\s'\"<>]+", lambda found: redacted(found[0]), text)


def hidden(settings: Any, name: str = "") -> Any:
    """A tree of settings without secrets, as it may be recorded."""
    if isinstance(settings, Mapping):
        return {key: hidden(value, str(key)) for key, value in settings.items()}
    if isinstance(settings, list):
        return [hidden(value, name) for value in settings]
    if not isinstance(settings, str):
        return settings
    return HIDDEN if settings and SETTING.fullmatch(name) else redacted(settings)


@contextmanager
def held(words: Sequence[str]) -> Iterator[list[str]]:
    """A command line whose addresses with secrets are in the environment meanwhile.

    Hydra repeats words in errors, in its own files and in what it sends to other machines.
    """
    words_by_variable = {HELD[_name(word)]: word for word in words if _secret(word)}
    before = {name: os.environ.get(name) for name in words_by_variable}
    os.environ.update({name: _value(word) for name, word in words_by_variable.items()})
    try:
        yield [_replaced(word) for word in words]
    finally:
        for name, value in before.items():
            del os.environ[name]
            if value is not None:
                os.environ[name] = value


def _name(word: str) -> str:
    return word.partition("=")[0].lstrip("+")


def _secret(word: str) -> bool:
    return _name(word) in HELD and redacted(word) != word


def _replaced(word: str) -> str:
    return f"{word.partition('=')[0]}=${{oc.env:{HELD[_name(word)]}}}" if _secret(word) else word


def _value(word: str) -> str:
    """The value of a word, without the quotes that Hydra would remove."""
    value = word.partition("=")[2]
    quoted = re.fullmatch(r"(['\"])(.*)\1", value, re.S)
    return quoted[2].replace(f"\\{quoted[1]}", quoted[1]) if quoted else value


def _secrets(address: str) -> list[tuple[int, int]]:
    """Start and end of each secret of an address, in order.

    A `/`, `?` or `@` in a password belongs to it, encoded or not. An address without a scheme is user:password@host,
    or a driver's own `password=… host=…`.
    """
    scheme, mark, rest = address.partition("://")
    bare = None if mark else re.match(r"(?:[\w.+~]+=)?(?=[^\s:/@=]+:.*@)", address, re.S)
    if not mark:
        scheme, rest = "", address[bare.end() :] if bare else address
    begin = len(address) - len(rest)
    spans = []
    if (mark or bare) and "@" in rest and {":", "@"} & set(re.split(r"[/?#]", rest, maxsplit=1)[0]):
        at = begin + rest.rindex("@")
        user = rest[: at - begin].partition(":")[0]
        token = bare or re.search(r"(^|\W)https?$", scheme)  # a user name without a password may be a token
        spans.append((begin if token else begin + len(user) + 1, at))
    names = list(re.finditer(rf"(?:^|[?&;{'' if mark else chr(92) + 's'}])([^=?&;]+)=", rest))
    for place, found in enumerate(names, start=1):
        end = names[place].start() if place < len(names) else len(rest)
        if SECRET.search(unquote(found[1])) if mark else SETTING.fullmatch(found[1].rpartition(".")[2].lstrip("+-")):
            spans.append((begin + found.end(), begin + end))
    return sorted((start, end) for start, end in spans if start < end)


def _spellings(secret: str) -> Iterator[str]:
    """A secret as it is, encoded and decoded, and its parts, since programs may differ on where it ends."""
    for whole in {secret, secret.partition(":")[2]}:
        for plain in {whole, unquote(whole), unquote_plus(whole)}:
            forms = {plain, quote(plain), quote(plain, safe=""), quote(plain, safe=" +"), quote_plus(plain)}
            yield from (form for form in {*forms, repr(plain)[1:-1]} if len(form) >= SHORT)
            yield from (part for part in re.split(r"[/?#@:&\s]", plain) if len(part) >= PART and part != plain)
