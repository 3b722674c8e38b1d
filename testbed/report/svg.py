"""Drawings as SVG text: elements that escape what is in them, and axes."""

import math
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup, escape

from testbed.report.plain_text import printable, shortened

# Of the page's font at the size that the drawings use, in pixels; a little generous.
CHARACTER_PX = 6.9


def element(name: str, *children: str, **attributes: str | float) -> Markup:
    """One element; what is no `Markup` is escaped.

    Args:
        attributes: `class_` is `class`, `stroke_width` is `stroke-width`; a number is
            written with at most two decimals.
    """
    written = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _value(value))
        for key, value in attributes.items()
    )
    inner = Markup("").join(
        child if isinstance(child, Markup) else escape(printable(child)) for child in children
    )
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), written, inner)  # noqa: S704 - our own


def drawing(label: str, width: float, height: float, *children: str, class_: str = "") -> Markup:
    """A whole drawing, as wide as its place allows but not wider than it was drawn."""
    return element(
        "svg",
        *children,
        class_=class_,
        viewBox=f"0 0 {width:g} {math.ceil(height)}",
        width=width,
        height=math.ceil(height),
        role="img",
        aria_label=printable(label),
    )


def text(
    words: str,
    x: float,
    y: float,
    class_: str = "",
    anchor: Literal["start", "middle", "end"] = "start",
) -> Markup:
    """Words that stand on a line at y."""
    return element("text", words, x=x, y=y, class_=class_, text_anchor=anchor)


def fits(words: str, width: float) -> bool:
    """Whether words have room in so many pixels."""
    return len(words) * CHARACTER_PX + 6 <= width


def cut(words: str, width: float) -> str:
    """Words, cut at the end if they would not fit."""
    return shortened(words, max(int((width - 6) / CHARACTER_PX), 1))


@dataclass(frozen=True)
class Axis:
    """A stretch of values on a stretch of pixels."""

    low: float
    high: float
    begin_px: float
    end_px: float
    log: bool = False

    def place(self, value: float) -> float:
        """Where a value lies; at the end of the axis if it is beyond."""
        low, high, value = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        share = (value - low) / (high - low) if high > low else 0.0
        return self.begin_px + min(max(share, 0.0), 1.0) * (self.end_px - self.begin_px)

    def ticks(self, most: int) -> list[float]:
        """Round values along the axis, at most so many."""
        return _log_ticks(self, most) if self.log else _linear_ticks(self, most)


def round_up(value: float, most: int) -> float:
    """The next tick at or above a value of an axis that begins at 0."""
    step = _step(value, most)
    return step * math.ceil(value / step - 1e-9)


def _linear_ticks(axis: Axis, most: int) -> list[float]:
    step = _step(axis.high - axis.low, most)
    first, last = math.ceil(axis.low / step - 1e-9), math.floor(axis.high / step + 1e-9)
    return [round(n * step, 12) for n in range(first, min(last, first + 20) + 1)]


def _log_ticks(axis: Axis, most: int) -> list[float]:
    powers = range(math.floor(math.log10(axis.low)), math.ceil(math.log10(axis.high)) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        found = [step * 10.0**power for power in powers for step in steps]
        inside = [v for v in found if axis.low * (1 - 1e-9) <= v <= axis.high * (1 + 1e-9)]
        if len(inside) <= most:
            break
    return inside[:: max(1, math.ceil(len(inside) / most))]


def _step(span: float, most: int) -> float:
    """The smallest round step that makes no more than so many ticks."""
    if not math.isfinite(span) or span <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(span / most))
    return next(power * m for m in (1, 2, 5, 10) if span / (power * m) <= most * (1 + 1e-9))


def _value(value: str | float) -> str:
    if isinstance(value, str):
        return value
    return f"{value:.2f}".rstrip("0").rstrip(".") if value % 1 else f"{value:.0f}"
