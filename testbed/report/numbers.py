"""Figures as people read them: with their unit and as many digits as mean something."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

NONE = "–"

# A figure's unit stands at the end of its name; longer endings first.
_UNITS = (
    ("_mb_s", "MB/s"),
    ("_mib_s", "MiB/s"),
    ("_ms", "ms"),
    ("_mib", "MiB"),
    ("_mb", "MB"),
    ("_s", "s"),
    ("_ratio", "×"),
)


@dataclass(frozen=True)
class Figure:
    """One figure of a run."""

    name: str
    text: str
    unit: str  # empty for a count
    share: float  # of the largest of its group with the same unit; 0 … 1


@dataclass(frozen=True)
class Group:
    """Figures whose names begin alike."""

    name: str
    figures: tuple[Figure, ...]


def seconds(value: float | None) -> str:
    """A time in seconds: hundredths below ten, thousandths below a tenth."""
    if value is None or not math.isfinite(value):
        return NONE
    for below, digits in ((0.0995, 3), (9.995, 2), (99.95, 1)):
        if abs(value) < below:
            return f"{value:.{digits}f}"
    return f"{value:.0f}"


def duration(value_s: float) -> str:
    """How long something took, in hours, minutes and seconds."""
    if not math.isfinite(value_s):
        return NONE
    if value_s < 60:
        return f"{seconds(value_s)} s"
    minutes, rest = divmod(round(value_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def counted(count: int, noun: str) -> str:
    """`1 spawn`, `2 spawns`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def number(value: float) -> str:
    """A number with three significant digits, whole where it is whole."""
    if not math.isfinite(value):
        return NONE
    if abs(value) >= 1e15:
        return f"{value:.3g}"
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    digits = 2 - math.floor(math.log10(abs(value)))
    return f"{value:.{min(max(digits, 0), 6)}f}"


def unit(name: str) -> str:
    """The unit that a figure's name ends with; empty if it is a count."""
    return next((sign for ending, sign in _UNITS if name.endswith(ending)), "")


def groups(figures: Mapping[str, float]) -> list[Group]:
    """Figures grouped by the first word of their names; those that stand alone come first."""
    by_word: dict[str, dict[str, float]] = {}
    for name, value in figures.items():
        by_word.setdefault(name.partition("_")[0], {})[name] = value
    alone = {n: v for part in by_word.values() if len(part) == 1 for n, v in part.items()}
    found = [_group("", alone)] if alone else []
    return found + [_group(word, part) for word, part in by_word.items() if len(part) > 1]


def _group(name: str, figures: Mapping[str, float]) -> Group:
    largest: dict[str, float] = {}
    for each, value in figures.items():
        if math.isfinite(value):
            largest[unit(each)] = max(largest.get(unit(each), 0.0), value)
    return Group(
        name,
        tuple(
            Figure(
                each,
                _text(value, unit(each)),
                unit(each),
                _share(value, largest.get(unit(each), 0.0)),
            )
            for each, value in figures.items()
        ),
    )


def _text(value: float, sign: str) -> str:
    if sign == "s":
        return seconds(value)
    # A ratio of exactly 1 was measured as well as one of 1.01.
    return f"{value:.2f}" if sign == "×" and 1 <= value < 10 else number(value)


def _share(value: float, largest: float) -> float:
    return max(0.0, value / largest) if largest > 0 and math.isfinite(value) else 0.0
