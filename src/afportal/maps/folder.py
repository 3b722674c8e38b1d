"""A map on disk, by its tag: everything that is known of it, so that any process picks it up.

Below the person's data folder (`~/.local/share/afportal/maps`), 0700:

    TAG/map.json       what it is
    TAG/function       what `runner.py` reads
    TAG/inputs
    TAG/runner.pyc     the worker's program
    TAG/submits/K.json what was sent in submission K; written before it is sent
    TAG/submits/K.id   its id at the scheduler; written after
    TAG/submits/K.log  HTCondor's event log of it
    TAG/output/K-JOB   what that job printed
    TAG/results/N      the result of call N

A folder appears in one step, and each file in it too.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pickle
import py_compile
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from afportal.jobs.errors import WrongRequest
from afportal.maps import runner
from afportal.maps.errors import NoRoom, NoSuchMap, TagTaken

_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,79}")
_VERSION = 1
# The worker's program, compiled by the interpreter that runs it
RUNNER = "runner.pyc"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def maps_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where a person's maps are."""
    data = environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "afportal" / "maps"


def ranges(calls: Iterable[int]) -> str:
    """Return numbers as a text such as "0-9,12"; the other way: `runner.numbers`."""
    parts: list[list[int]] = []
    for call in sorted(set(calls)):
        if parts and parts[-1][1] == call - 1:
            parts[-1][1] = call
        else:
            parts.append([call, call])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


@dataclass(frozen=True)
class Record:
    """What a map is.

    Args:
        key: of this map alone, also when its tag is used again.
        made_s: when, unix seconds.
        spool: its jobs go to an access point that shares no files with us.
        options: what its jobs may use, as `MapOptions` has it.
    """

    tag: str
    key: str
    scheduler: str
    function: str
    calls: int
    made_s: float
    spool: bool = False
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Submission:
    """Jobs that were sent together.

    Args:
        number: from 0, within its map.
        calls: as a text; in the order of the jobs.
        per_job: how many calls a job makes.
        id: HTCondor's cluster, Slurm's array; empty: not known to be there.
    """

    number: int
    calls: str
    per_job: int
    id: str = ""

    def jobs(self) -> list[tuple[int, ...]]:
        """Return the calls of each of its jobs."""
        calls = [*runner.numbers(self.calls)]
        return [tuple(calls[i : i + self.per_job]) for i in range(0, len(calls), self.per_job)]


@contextlib.contextmanager
def _room(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise NoRoom(
                f"{what}: {error.strerror} at {maps_folder()}; nothing was submitted. Make room "
                "(maps.remove(tag) forgets a map with its results), then do it again"
            ) from error
        raise


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there as a whole or not at all."""
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    try:
        with open(new, "wb", opener=lambda p, flags: os.open(p, flags, 0o600)) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise


def _write_inputs(path: Path, inputs: Sequence[bytes]) -> None:
    position = runner.OFFSET_BYTES * (len(inputs) + 1)
    offsets = [position]
    for content in inputs:
        position += len(content)
        offsets.append(position)
    head = b"".join(n.to_bytes(runner.OFFSET_BYTES, "little") for n in offsets)
    with open(path, "wb") as file:
        file.write(head)
        file.writelines(inputs)
        file.flush()
        os.fsync(file.fileno())


def checked_tag(tag: str) -> str:
    """Return a tag that can be a folder's name. Raises WrongRequest."""
    if not _TAG.fullmatch(tag):
        raise WrongRequest(
            f"tag {tag!r}: letters, digits and _ . + - are possible, 80 at most, the first a "
            "letter or digit"
        )
    return tag


def tags() -> list[str]:
    """Return the tags of all maps, the newest last."""
    found = [path.parent for path in maps_folder().glob("*/map.json")]
    found = [path for path in found if not path.name.startswith(".")]
    return [path.name for path in sorted(found, key=lambda p: (p / "map.json").stat().st_mtime)]


class MapFolder:
    """One map's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.record = self._read()

    @classmethod
    def make(
        cls,
        record: Record,
        inputs: Sequence[bytes],
        *,
        function: bytes,
        is_plain: bool,
        paths: Sequence[str],
        directory: str,
        limit: int,
        sources: Mapping[tuple[str, int], Sequence[str]],
    ) -> MapFolder:
        """Make a new one.

        Args:
            inputs: pickles of (arguments, named arguments), one a call.
            function: its pickle, or what `by_value.plain` makes of it.
            paths: where modules are looked for.
            directory: where calls run; empty: where the scheduler puts them.
            limit: of a result, bytes.
            sources: (name, first line) of functions sent by value → their lines.

        Raises:
            TagTaken: there is one of this tag.
            NoRoom: the home is full; nothing is left behind.
        """
        root, tag = maps_folder(), checked_tag(record.tag)
        new = root / f".new-{record.key}"
        try:
            with _room(f"{len(inputs)} inputs of map {tag}"):
                for name in ("submits", "output", "results"):
                    (new / name).mkdir(parents=True, mode=0o700)
                new.chmod(0o700)
                _write_inputs(new / "inputs", inputs)
                setup = ([*paths], directory, limit, dict(sources), is_plain, function)
                write_whole(new / "function", pickle.dumps(setup, protocol=5))
                py_compile.compile(
                    runner.__file__, str(new / RUNNER), "runner.py", doraise=True, quiet=2,
                    invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
                )  # fmt: skip
                described = {"version": _VERSION, **asdict(record)}
                write_whole(new / "map.json", json.dumps(described, indent=1).encode())
                cls._appear(new, root / tag)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
        return cls(root / tag)

    @classmethod
    def of(cls, tag: str) -> MapFolder:
        """Return the one of a tag. Raises NoSuchMap, WrongRequest."""
        path = maps_folder() / checked_tag(tag)
        if not (path / "map.json").is_file():
            known = ", ".join(tags()) or "none"
            raise NoSuchMap(f"there is no map {tag} in {maps_folder()}; there are: {known}")
        return cls(path)

    @staticmethod
    def _appear(new: Path, path: Path) -> None:
        try:
            new.rename(path)  # takes the place of an empty folder only
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise
            raise TagTaken(
                f"tag {path.name} is taken: maps.load({path.name!r}) picks that map up, "
                f"maps.remove({path.name!r}) forgets it with its results; or choose another tag"
            ) from error

    def _read(self) -> Record:
        described = json.loads((self.path / "map.json").read_text())
        version = described.pop("version")
        if version != _VERSION:
            raise NoSuchMap(
                f"map {self.path.name} is of version {version}, this afportal reads {_VERSION}: "
                "take the environment that made it"
            )
        return Record(**{**described, "tag": self.path.name})

    def retag(self, tag: str) -> None:
        """Give it another tag. Raises TagTaken, WrongRequest."""
        path = self.path.with_name(checked_tag(tag))
        self._appear(self.path, path)
        self.path = path
        self.record = self._read()

    def remove(self) -> None:
        """Forget it and its results, at once for everybody who looks."""
        gone = self.path.with_name(f".gone-{self.record.key}")
        self.path.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    def keep_options(self, options: Mapping[str, Any]) -> None:
        """Change what jobs of the next submission may use."""
        record = replace(self.record, options=dict(options))
        described = {"version": _VERSION, **asdict(record)}
        write_whole(self.path / "map.json", json.dumps(described, indent=1).encode())
        self.record = record

    # Submissions

    def submissions(self) -> list[Submission]:
        """Return all that were made, or were about to be."""
        numbers = sorted(int(path.stem) for path in (self.path / "submits").glob("*.json"))
        return [self._submission(number) for number in numbers]

    def _submission(self, number: int) -> Submission:
        raw = json.loads((self.path / "submits" / f"{number}.json").read_text())
        try:
            known = (self.path / "submits" / f"{number}.id").read_text().strip()
        except FileNotFoundError:
            known = ""
        return Submission(number, raw["calls"], raw["per_job"], known)

    def begin_submission(self, calls: Iterable[int], per_job: int) -> Submission:
        """Write down what is about to be sent. Raises NoRoom."""
        number = max((s.number for s in self.submissions()), default=-1) + 1
        submission = Submission(number, ranges(calls), per_job)
        raw = {"calls": submission.calls, "per_job": per_job}
        with _room(f"map {self.record.tag}"):
            write_whole(self.path / "submits" / f"{number}.json", json.dumps(raw).encode())
        return submission

    def end_submission(self, submission: Submission, scheduler_id: str) -> Submission:
        """Write down its id at the scheduler."""
        write_whole(self.path / "submits" / f"{submission.number}.id", scheduler_id.encode())
        return Submission(submission.number, submission.calls, submission.per_job, scheduler_id)

    def drop_submission(self, submission: Submission) -> None:
        """Forget one that the scheduler did not take."""
        (self.path / "submits" / f"{submission.number}.json").unlink(missing_ok=True)

    def log(self, submission: Submission) -> Path:
        """Where HTCondor writes the events of a submission."""
        return self.path / "submits" / f"{submission.number}.log"

    def output(self, submission: Submission, job: int) -> Path:
        """Where one of its jobs prints to."""
        return self.path / "output" / f"{submission.number}-{job}"

    # Results

    @property
    def results(self) -> Path:
        """Where they are."""
        return self.path / "results"

    def finished(self) -> set[int]:
        """Return the calls that have a result, right or wrong."""
        with os.scandir(self.results) as found:
            return {int(each.name) for each in found if each.name.isdecimal()}

    def account(self, call: int) -> tuple[str, dict[str, Any], dict[str, str]]:
        """Return (kind, account, error) of a call that has a result, without its value.

        Raises:
            FileNotFoundError: it has none.
        """
        with open(self.results / str(call), "rb") as file:
            found: tuple[str, dict[str, Any], dict[str, str]] = pickle.load(file)  # noqa: S301 - one's own
        return found

    def value(self, call: int) -> Any:
        """Return the value of a call that has one. Raises FileNotFoundError."""
        with open(self.results / str(call), "rb") as file:
            pickle.load(file)  # noqa: S301 - one's own
            return pickle.load(file)  # noqa: S301

    def discard_result(self, call: int) -> None:
        """Forget a result, before the call is made again."""
        (self.results / str(call)).unlink(missing_ok=True)

    def input(self, call: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of a call, as it was given them."""
        content = runner.read_input(str(self.path / "inputs"), call)
        found: tuple[tuple[Any, ...], dict[str, Any]] = pickle.loads(content)  # noqa: S301
        return found
