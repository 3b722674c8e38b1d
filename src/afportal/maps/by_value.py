"""Functions of a notebook in a form that a worker reads without cloudpickle.

Importing cloudpickle costs a worker more than Python's own start, a thousand times in a map of a
thousand tiny calls. What most notebooks send, a function with the functions, modules and plain data
it names, needs none of it: the worker runs the same interpreter, so that code travels as code.
"""

from __future__ import annotations

import marshal
import pickle
import types
from collections.abc import Callable, Iterator
from typing import Any

_MODULE, _FUNCTION, _VALUE = "module", "function", "value"


class _NotPlain(Exception):
    pass


def plain(function: Callable[..., Any]) -> bytes | None:
    """Return a function as `runner.from_plain` reads it; None: it takes cloudpickle.

    Functions keep code, defaults and the names they use; one with an own attribute, a closure or
    another module's names is none of these.
    """
    if not isinstance(function, types.FunctionType) or function.__module__ != "__main__":
        return None
    namespace: dict[str, tuple[str, Any]] = {}
    try:
        head = _described(function, function.__globals__, namespace)
    except _NotPlain:
        return None
    return marshal.dumps((head, namespace))


def _described(
    function: types.FunctionType,
    names: dict[str, Any],
    namespace: dict[str, tuple[str, Any]],
) -> tuple[Any, ...]:
    if function.__globals__ is not names or function.__closure__ or function.__dict__:
        raise _NotPlain
    for name in _named(function.__code__):
        own = name.startswith("__") and name.endswith("__")  # a worker has its own
        if name in names and name not in namespace and not own:
            namespace[name] = (_MODULE, "")  # a function that names itself ends here
            namespace[name] = _entry(names[name], names, namespace)
    defaults = _pickled((function.__defaults__, function.__kwdefaults__))
    return function.__code__, function.__name__, function.__qualname__, defaults


def _entry(
    value: Any, names: dict[str, Any], namespace: dict[str, tuple[str, Any]]
) -> tuple[str, Any]:
    if isinstance(value, types.ModuleType):
        return _MODULE, value.__name__
    if isinstance(value, types.FunctionType) and value.__module__ == "__main__":
        return _FUNCTION, _described(value, names, namespace)
    return _VALUE, _pickled(value)


def _named(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _named(constant)


def _pickled(value: Any) -> bytes:
    try:
        content = pickle.dumps(value, protocol=5)
    except Exception as error:
        raise _NotPlain from error
    # By reference into this process, where a worker has something else
    if b"__main__" in content:
        raise _NotPlain
    return content
