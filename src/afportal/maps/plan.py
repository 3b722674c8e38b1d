"""What a map will be: function and inputs made ready to send, everything checked before."""

from __future__ import annotations

import contextlib
import inspect
import os
import secrets
import sys
import time
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from afportal.jobs.errors import NotHere, WrongRequest
from afportal.jobs.fields import SCHEDULERS, Resources, Text
from afportal.maps import by_value
from afportal.maps.errors import NotPicklable
from afportal.maps.folder import MapFolder, Record

_MOST_SOURCES = 50
_CONTAINER = ("APPTAINER_CONTAINER", "SINGULARITY_CONTAINER")


class MapOptions(Resources):
    """What each job of a map may use.

    Args:
        calls_per_job: how many calls one job makes, one after the other.
        result_limit_mib: the largest result of a call that is kept, pickled, MiB.
        directory: where calls run; None: where the notebook is.
    """

    calls_per_job: int = Field(default=1, ge=1, le=100_000)
    result_limit_mib: float = Field(default=256.0, gt=0)
    directory: Text | None = None


def _cloudpickle() -> Any:
    try:
        import cloudpickle
    except ImportError as error:
        raise NotHere(
            "this environment has no cloudpickle, by which functions are sent: "
            "pip install cloudpickle"
        ) from error
    return cloudpickle


@contextlib.contextmanager
def _by_value(cloudpickle: Any, wanted: bool) -> Iterator[None]:
    """Send the person's own modules with what uses them, where no worker could import them."""
    own = []
    if wanted:
        installed = (sys.prefix, sys.base_prefix)
        for name, module in [*sys.modules.items()]:
            file = getattr(module, "__file__", None) or ""
            ours = name.partition(".")[0] in ("__main__", "afportal")
            if file.endswith(".py") and not (ours or file.startswith(installed)):
                own.append(module)
    for module in own:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in own:
            cloudpickle.unregister_pickle_by_value(module)


def _pickles(
    cloudpickle: Any, function: Callable[..., Any], calls: Sequence[tuple[Any, Any]]
) -> tuple[bytes, list[bytes]]:
    name = getattr(function, "__qualname__", repr(function))
    try:
        content: bytes = cloudpickle.dumps(function, protocol=5)
    except Exception as error:
        raise NotPicklable(
            f"function {name} cannot be sent to a worker: {error}. It or a variable it uses "
            "holds what belongs to this process (an open file, a lock, a connection): make that "
            "inside the function"
        ) from error
    inputs = []
    for number, call in enumerate(calls):
        try:
            inputs.append(cloudpickle.dumps(call, protocol=5))
        except Exception as error:
            raise NotPicklable(
                f"input {number} of {len(calls)} cannot be sent to a worker: {error}. Give what "
                "it is made from, such as a file's path"
            ) from error
    return content, inputs


def _sources(function: Callable[..., Any]) -> dict[tuple[str, int], list[str]]:
    """The lines of a function and of those it names, for tracebacks where they have no file."""
    found: dict[tuple[str, int], list[str]] = {}
    left: list[Any] = [inspect.unwrap(function)]
    while left and len(found) < _MOST_SOURCES:
        each = left.pop()
        if not isinstance(each, types.FunctionType):
            continue
        code = each.__code__
        place = (code.co_name, code.co_firstlineno)
        if place in found or each.__module__ != function.__module__:
            continue
        try:
            lines, _ = inspect.getsourcelines(code)
        except (OSError, TypeError, IndentationError, SyntaxError):
            continue
        found[place] = [line.rstrip("\n") for line in lines]
        left += [each.__globals__.get(name) for name in code.co_names]
    return found


def _paths() -> list[str]:
    """Where this process looks for modules, as another process would have to."""
    here = str(Path.cwd())
    return [*dict.fromkeys(path or here for path in sys.path)]


def make(
    function: Callable[..., Any],
    calls: Iterable[tuple[tuple[Any, ...], Mapping[str, Any]]],
    *,
    tag: str | None,
    scheduler: str,
    options: MapOptions,
    spool: bool,
) -> MapFolder:
    """Write down a map, so that it can be sent.

    Args:
        calls: (arguments, named arguments) of each.
        tag: None: the function's name with some letters.
        spool: its workers share no files with us.

    Raises:
        WrongRequest, NotPicklable, NotHere, TagTaken, NoRoom: nothing is left behind.
    """
    if not callable(function):
        raise WrongRequest(f"function: {function!r} asked; something to call is wanted")
    if scheduler not in SCHEDULERS:
        raise WrongRequest(f"scheduler: {scheduler!r} asked; possible are {', '.join(SCHEDULERS)}")
    if image := next((os.environ[name] for name in _CONTAINER if os.environ.get(name)), ""):
        raise NotHere(
            f"this kernel runs in the container {image}, and a worker cannot be given it: start "
            "maps from a server or kernel in one of the facility's environments or your own"
        )
    listed = [(tuple(arguments), dict(named)) for arguments, named in calls]
    if not listed:
        raise WrongRequest("inputs: none given; a map makes a call for each")
    cloudpickle = _cloudpickle()
    with _by_value(cloudpickle, spool):
        content, inputs = _pickles(cloudpickle, function, listed)
    by_itself = None if spool else by_value.plain(function)
    name = getattr(function, "__name__", type(function).__name__)
    key = secrets.token_hex(8)
    words = "".join(c for c in name if c.isascii() and c.isalnum()) or "map"
    record = Record(
        tag=tag or f"{words[:40]}-{key[:6]}",
        key=key,
        scheduler=scheduler,
        function=name,
        calls=len(listed),
        made_s=time.time(),
        spool=spool,
        options=options.model_dump(mode="json", exclude_defaults=True),
    )
    return MapFolder.make(
        record,
        inputs,
        function=by_itself or content,
        is_plain=by_itself is not None,
        paths=[] if spool else _paths(),
        directory="" if spool else str(Path(options.directory or Path.cwd()).absolute()),
        limit=int(options.result_limit_mib * 2**20),
        sources=_sources(function),
    )
