"""Runs calls of a map on a worker: `python -P runner.pyc FOLDER CALLS [INPUTS]`.

A program of its own: it imports nothing of afportal, not even `pickle` but what that is made of,
and cloudpickle only where the function or a result needs it: a thousand tiny calls pay for each
import. For the same reason a map's folder has it compiled.

What lies in a map's folder, and is written here and by `afportal.maps.folder`:

    function    pickle of (module path, directory, limit of a result, sources, whether the
                function is `by_value.plain`, the function)
    inputs      number of calls + 1 offsets, each 8 bytes little-endian, then the pickled inputs
    results/N   pickle of (kind, account, error), then that of the value; appears in one step, whole

Exit code 0: each call has its result, be it an error; `NO_ROOM`: a result could not be written.
"""

from __future__ import annotations

import _pickle as pickle
import os
import sys
import time

TYPE_CHECKING = False  # typing's own would cost its import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FunctionType
    from typing import Any

    # (name, first line) of code that was sent by value → its lines
    Sources = dict[tuple[str, int], list[str]]

# sysexits.h: EX_IOERR
NO_ROOM = 74
VALUE, ERROR = "value", "error"
OFFSET_BYTES = 8


def numbers(text: str) -> Iterator[int]:
    """Give the numbers of a text such as "0-9,12"."""
    for part in text.split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def read_input(path: str, call: int) -> bytes:
    """Return one call's pickled input."""
    with open(path, "rb") as file:
        file.seek(OFFSET_BYTES * call)
        begin, end = (int.from_bytes(file.read(OFFSET_BYTES), "little") for _ in range(2))
        file.seek(begin)
        content = file.read(end - begin)
    if len(content) != end - begin:
        raise EOFError(f"the inputs end before that of call {call}: {path}")
    return content


def pickled(value: object) -> bytes:
    """Pickle by reference where that does, by cloudpickle where it does not."""
    try:
        return pickle.dumps(value, protocol=5)
    except Exception:
        import cloudpickle

        content: bytes = cloudpickle.dumps(value, protocol=5)
        return content


def write_result(folder: str, call: int, content: bytes) -> None:
    """Write a result so that it is there as a whole or not at all, also after a power cut."""
    final = f"{folder}/results/{call}"
    new = f"{folder}/results/.{call}-{os.uname().nodename}-{os.getpid()}.new"
    try:
        with open(new, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, final)  # noqa: PTH105 - pathlib would be one more import
    except OSError:
        try:  # noqa: SIM105 - contextlib would be one more import
            os.unlink(new)  # noqa: PTH108
        except OSError:
            pass
        raise


class _TooLarge(Exception):
    pass


def _error(stage: str, error: BaseException, account: dict[str, Any], sources: Sources) -> bytes:
    import traceback

    # Without the runner's own frames: the person's code is what went wrong.
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == main.__code__.co_filename:
        trace = trace.tb_next
    told_trace = traceback.TracebackException(type(error), error, trace)
    # What was sent by value has no file here; its lines came with it.
    for number, (frame, line) in enumerate(traceback.walk_tb(trace)):
        code = frame.f_code
        lines = sources.get((code.co_name, code.co_firstlineno), ())
        if 0 <= line - code.co_firstlineno < len(lines):
            told_trace.stack[number] = traceback.FrameSummary(
                code.co_filename, line, code.co_name,
                lookup_line=False, line=lines[line - code.co_firstlineno],
            )  # fmt: skip
    told = {
        "stage": stage,
        "type": type(error).__name__,
        "message": str(error)[:10_000],
        "traceback": "".join(told_trace.format())[-100_000:],
        "module": getattr(error, "name", "") if isinstance(error, ImportError) else "",
    }
    return pickle.dumps((ERROR, account, told), protocol=5)


def _outcome(
    function: Callable[..., Any] | BaseException,
    read: Callable[[], bytes],
    limit: int,
    sources: Sources,
) -> bytes:
    """Make one call; its result, or what went wrong, as the bytes of its file."""
    account: dict[str, Any] = {"node": os.uname().nodename, "begun_s": time.time()}
    stage = "function"
    try:
        if isinstance(function, BaseException):
            raise function
        stage = "input"
        arguments, named = pickle.loads(read())
        stage = "call"
        value = function(*arguments, **named)
        account["took_s"] = time.time() - account["begun_s"]
        stage = "result"
        payload = pickled(value)
        if len(payload) > limit:
            raise _TooLarge(
                f"the result is {len(payload) / 2**20:.1f} MiB; result_limit_mib allows "
                f"{limit / 2**20:g}"
            )
        return pickle.dumps((VALUE, account, {}), protocol=5) + payload
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit too: one call must not end the others
        return _error(stage, error, account, sources)


def from_plain(content: bytes) -> FunctionType:
    """Make the function that `by_value.plain` described; all its names are in one namespace."""
    import marshal
    from importlib import import_module
    from types import FunctionType

    head, described = marshal.loads(content)  # noqa: S302 - the person's own
    names: dict[str, Any] = {"__name__": "__main__", "__builtins__": __builtins__}

    def made(code: Any, name: str, qualname: str, defaults: bytes) -> FunctionType:
        function = FunctionType(code, names, name)
        function.__qualname__ = qualname
        function.__defaults__, function.__kwdefaults__ = pickle.loads(defaults)
        return function

    for name, (kind, value) in described.items():
        if kind == "module":
            names[name] = import_module(value)
        else:
            names[name] = made(*value) if kind == "function" else pickle.loads(value)
    return made(*head)


def _prepared(folder: str) -> tuple[Callable[..., Any] | BaseException, int, Sources]:
    """Take up the notebook's place and module path; its function, or why it cannot be had."""
    with open(f"{folder}/function", "rb") as file:
        paths, directory, limit, sources, is_plain, content = pickle.load(file)
    sys.path[:] = [*paths, *(path for path in sys.path if path not in paths)]
    try:
        if directory:
            os.chdir(directory)
        function: Callable[..., Any] = from_plain(content) if is_plain else pickle.loads(content)
    except Exception as error:
        return error, limit, sources
    return function, limit, sources


def main(folder: str, calls: str, inputs: str = "") -> int:
    """Make the calls one after the other, each result kept as soon as it is there.

    Args:
        folder: the map's, or a job's own where the map's is not.
        inputs: pickle of {call: input}, where the map's file of inputs is not there.
    """
    folder = os.path.abspath(folder)  # noqa: PTH100
    few: dict[int, bytes] | None = None
    if inputs:
        with open(f"{folder}/{inputs}", "rb") as file:
            few = pickle.load(file)
        os.makedirs(f"{folder}/results", exist_ok=True)  # noqa: PTH103
    function, limit, sources = _prepared(folder)
    for call in numbers(calls):

        def read(call: int = call) -> bytes:
            return few[call] if few is not None else read_input(f"{folder}/inputs", call)

        content = _outcome(function, read, limit, sources)
        try:
            write_result(folder, call, content)
        except OSError as error:
            print(f"the result of call {call} could not be written: {error}", file=sys.stderr)
            return NO_ROOM
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
