"""Digests of objects that were passed from Python: equal digests mean that an object computes the same.

A run is read back rather than trained again where its digests are those of an earlier run. So what decides what an
object computes enters its digest: code, defaults, values that it closes over, globals that it reads, state. Where
anything of that cannot be read, the digest is random, so that an old result is never taken for a new one.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import inspect
import re
import secrets
import types
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, TypeAlias

from lossbench.config import catalogue

if TYPE_CHECKING:
    import pandas as pd

LENGTH = 12  # hexadecimal digits
SIMPLE = (type(None), bool, int, float, complex, str, bytes, type(...))
NO_PART = {
    *("__dict__", "__weakref__", "__doc__", "__module__", "__firstlineno__", "__static_attributes__", "_abc_impl"),
    *("__dataclass_fields__", "__dataclass_params__"),  # what they decide, the methods made from them say
}
HEAP = 1 << 9  # the flag of a class that is written in Python

Seen: TypeAlias = "dict[int, tuple[int, Any]]"
"""Number and object by id; the object stays alive with it, so that no other gets its id."""


class Unreadable(Exception):
    """Something whose content decides what an object computes, and cannot be read."""


def of_code(thing: Any) -> str:
    """The digest of a function, a class, a module of torch or any other callable; random where it is unreadable."""
    digest = hashlib.sha256()
    try:
        for part in _parts(thing, {}):
            digest.update(len(part).to_bytes(8, "big") + part)
    except (Unreadable, RecursionError):
        return f"x{secrets.token_hex(LENGTH // 2)}"
    return f"d{digest.hexdigest()[:LENGTH]}"


def of_table(table: pd.DataFrame) -> str:
    """The digest of a table's columns, types and values; the index does not count."""
    import pandas as pd

    digest = hashlib.sha256()
    for name in table.columns:
        column = table[name]
        digest.update(f"{name!r} {column.dtype!r}".encode())
        if isinstance(column.dtype, pd.CategoricalDtype):
            digest.update(repr((list(column.cat.categories), column.cat.ordered)).encode())
        if column.dtype == object:  # in which 1 and "1" are hashed alike
            digest.update(" ".join(type(value).__name__ for value in column).encode())
        try:
            digest.update(pd.util.hash_pandas_object(column, index=False).to_numpy().tobytes())
        except TypeError:  # lists and the like
            return f"x{secrets.token_hex(LENGTH // 2)}"
    return f"d{digest.hexdigest()[:LENGTH]}"


def _parts(thing: Any, seen: Seen) -> Iterator[bytes]:
    """What decides what an object computes, in pieces. Raises: Unreadable."""
    yield type(thing).__name__.encode()
    if isinstance(thing, enum.Enum):
        yield repr((type(thing).__qualname__, thing.name)).encode()
    elif isinstance(thing, (*SIMPLE, PurePath, re.Pattern)):
        yield repr(thing).encode()
    elif id(thing) in seen:
        yield f"again {seen[id(thing)][0]}".encode()
    else:
        seen[id(thing)] = len(seen), thing
        yield from _of_object(thing, seen)


def _of_object(thing: Any, seen: Seen) -> Iterator[bytes]:
    if type(thing) in (dict, OrderedDict, types.MappingProxyType):
        for name, value in thing.items():
            yield from (*_parts(name, seen), *_parts(value, seen))
    elif type(thing) in (set, frozenset):
        yield from sorted(b"".join(_parts(one, {})) for one in thing)
    elif type(thing) in (list, tuple):
        for one in thing:
            yield from _parts(one, seen)
    elif (array := _array(thing)) is not None:
        yield repr((thing.dtype, tuple(thing.shape))).encode()
        yield array.tobytes()
    elif isinstance(thing, types.ModuleType):
        yield from _of_module(thing.__name__, getattr(thing, "__version__", None))
    elif isinstance(thing, types.CodeType):
        yield from _of_bytecode(thing, seen)
    elif (where := importable(thing)) or inspect.isbuiltin(thing):
        yield (where or _of_builtin(thing)).encode()
        yield from _of_module(where.rpartition(".")[0], None) if where else ()
    elif isinstance(thing, types.FunctionType):
        yield from _of_function(thing, seen)
    elif isinstance(thing, type):
        yield from _of_class(thing, seen)
    else:
        yield from _of_instance(thing, seen)


def _of_function(thing: types.FunctionType, seen: Seen) -> Iterator[bytes]:
    for value in (thing.__code__, thing.__defaults__, thing.__kwdefaults__, vars(thing)):
        yield from _parts(value, seen)
    for cell in thing.__closure__ or ():
        try:
            yield from _parts(cell.cell_contents, seen)
        except ValueError:  # not set yet
            yield b"empty"
    for name in sorted(_names(thing.__code__) & set(thing.__globals__)):
        yield name.encode()
        yield from _parts(thing.__globals__[name], seen)


def _of_bytecode(code: types.CodeType, seen: Seen) -> Iterator[bytes]:
    yield code.co_code
    counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    yield repr((counts, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)).encode()
    yield code.co_exceptiontable
    for constant in code.co_consts:
        yield from _parts(constant, seen)


def _names(code: types.CodeType) -> set[str]:
    """The names that code and the functions inside it look up."""
    inner = (constant for constant in code.co_consts if isinstance(constant, types.CodeType))
    return set(code.co_names).union(*map(_names, inner))


def _of_class(thing: type, seen: Seen) -> Iterator[bytes]:
    if thing.__module__ == "builtins":
        yield thing.__qualname__.encode()
        return
    if not thing.__flags__ & HEAP:
        raise Unreadable(thing)
    yield thing.__qualname__.encode()
    for parent in thing.__bases__:
        yield from _parts(parent, seen)
    for name, value in sorted(vars(thing).items()):
        if name not in NO_PART and not isinstance(value, types.GetSetDescriptorType | types.MemberDescriptorType):
            yield name.encode()
            yield from _parts(value, seen)


def _of_instance(thing: Any, seen: Seen) -> Iterator[bytes]:
    """State and class of an instance. Raises: Unreadable for one that is not of Python, whose state is out of sight."""
    if isinstance(thing, functools.partial):
        yield from _parts((thing.func, thing.args, thing.keywords, vars(thing)), seen)
    elif isinstance(thing, types.MethodType):
        yield from _parts((thing.__func__, thing.__self__), seen)
    elif isinstance(thing, staticmethod | classmethod):
        yield from _parts(thing.__func__, seen)
    elif isinstance(thing, property):
        yield from _parts((thing.fget, thing.fset, thing.fdel), seen)
    elif type(thing).__module__.partition(".")[0] == "torch" and type(thing).__name__ in ("dtype", "device"):
        yield repr(thing).encode()
    elif hasattr(thing, "__dict__") and all(_of_python(one) for one in type(thing).__mro__[:-1]):
        yield from _parts(type(thing), seen)
        yield from _parts(vars(thing), seen)
    else:
        raise Unreadable(thing)


def _of_python(one: type) -> bool:
    """Whether the instances of a class keep all their state in their `__dict__`."""
    return bool(one.__flags__ & HEAP) and not one.__dict__.get("__slots__")


def _of_builtin(thing: Any) -> str:
    """The name of a function that is not written in Python. Raises: Unreadable for a method, which has an object."""
    if not isinstance(thing.__self__, types.ModuleType):
        raise Unreadable(thing)
    return f"{thing.__self__.__name__}.{thing.__name__}"


def _of_module(name: str, version: str | None) -> Iterator[bytes]:
    """A module by its source, as far as it has one."""
    yield f"{name} {version}".encode()
    spec = catalogue.find(name) if name else None
    if spec and spec.origin and spec.origin.endswith(".py"):
        yield Path(spec.origin).read_bytes()


def _array(thing: Any) -> Any:
    """A tensor or an array as an array of numbers; None for anything else. Raises: Unreadable for one of objects."""
    if type(thing).__module__.partition(".")[0] == "numpy" and hasattr(thing, "tobytes") and hasattr(thing, "dtype"):
        found = thing
    elif all(hasattr(thing, name) for name in ("detach", "cpu", "numpy", "is_sparse")) and not isinstance(thing, type):
        import torch

        found = thing.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    else:
        return None
    if found.dtype.hasobject:
        raise Unreadable(thing)
    return found


def importable(thing: Any) -> str:
    """The dotted path at which any process finds this function or class; empty where there is none."""
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or module == "__main__":
        return ""
    if not all(part.isidentifier() for part in f"{module}.{name}".split(".")):  # <locals>, <lambda>
        return ""
    spec = catalogue.find(module)
    if spec is None or not spec.origin:
        return ""
    from lossbench.config.importing import imported

    try:
        return f"{module}.{name}" if imported(f"{module}.{name}") is thing else ""
    except Exception:  # importing may raise anything
        return ""
