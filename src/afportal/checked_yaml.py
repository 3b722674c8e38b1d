"""YAML that a person wrote, checked against a model: every error at once, with its line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

M = TypeVar("M", bound=BaseModel)

Place = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """What is wrong at one place of a file.

    Args:
        line: counted from 1; of the nearest thing around it where the place itself is missing.
        place: "classes.0.cores"; empty for the file as a whole.
    """

    line: int
    place: str
    what: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.place}: {self.what}".replace(": :", ":")


class WrongFile(ValueError):
    """A file with problems; the message has a line for each."""

    def __init__(self, path: Path, problems: Sequence[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(f"{path}: {problem}" for problem in problems))


def read(
    path: Path, model: type[M], more: Callable[[Any], Iterator[tuple[Place, str]]] | None = None
) -> M:
    """Read a file into a model.

    Args:
        more: further errors of the data as YAML has it, which may be wrong in any way: the
            place of each and what is wrong there.

    Raises:
        WrongFile: with every error of the file.
        OSError: it cannot be read.
    """
    text = path.read_text(encoding="utf-8")
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        raw: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or str(error)
        raise WrongFile(path, [Problem(mark.line + 1 if mark else 1, "", what)]) from error
    found = [(place, what, line) for place, what, line in _twice(node, ())]
    made: M | None = None
    try:
        made = model.model_validate(raw)
    except ValidationError as error:
        # Where `more` tells of the whole, the model's own word for it would be a second one.
        found += [
            (tuple(e["loc"]), _words(e), 0)
            for e in error.errors()
            # A list is called too short when none of its entries is right.
            if (e["loc"] or more is None) and not (e["type"] == "too_short" and e["input"])
        ]
        if not isinstance(raw, dict):
            found.append(((), "this is no mapping", 0))
    if more is not None:
        found += [(place, what, 0) for place, what in more(raw)]
    if found or made is None:
        problems = {
            Problem(line or _line(node, place), ".".join(map(str, place)), what): None
            for place, what, line in found
        }
        raise WrongFile(path, sorted(problems, key=lambda p: (p.line, p.place)))
    return made


def _words(error: Any) -> str:
    what = str(error["msg"]).removeprefix("Value error, ")
    given = error.get("input")
    if error["type"] in ("missing", "extra_forbidden") or not isinstance(given, str | int | float):
        return what
    return f"{what}, not {given!r}"


def _line(node: yaml.Node | None, place: Place) -> int:
    """Return the line of a place, or of the innermost thing around it that is there."""
    line = node.start_mark.line + 1 if node is not None else 1
    for part in place:
        if isinstance(node, yaml.MappingNode):
            pairs = [(key, value) for key, value in node.value if key.value == str(part)]
            if not pairs:
                break
            key, node = pairs[-1]
            line = key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            if part >= len(node.value):
                break
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line


def _twice(
    node: yaml.Node | None, place: Place, around: tuple[yaml.Node, ...] = ()
) -> Iterator[tuple[Place, str, int]]:
    """Tell of every key that stands twice: YAML takes the last one and says nothing."""
    if node is None or any(node is outer for outer in around):
        return
    around = (*around, node)
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            inner = (*place, str(key.value))
            if key.value in seen:
                yield inner, "stands here a second time", key.start_mark.line + 1
            seen.add(key.value)
            yield from _twice(value, inner, around)
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            yield from _twice(value, (*place, number), around)
