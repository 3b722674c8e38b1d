"""The drawings of spawns: the waterfall by phase, and how many had arrived after how long."""

from collections.abc import Sequence

from markupsafe import Markup

from testbed.report.numbers import seconds
from testbed.report.series import Series
from testbed.report.svg import Axis, cut, drawing, element, fits, round_up, text

# Who works in a phase, and which of its two tints tells it from its neighbour.
PHASE_LOOKS = {
    "accepted": ("hub", 0),
    "submitted": ("hub", 1),
    "matched": ("scheduler", 0),
    "executing": ("scheduler", 1),
    "hello": ("session", 0),
    "http": ("hub", 0),
    "routed": ("hub", 1),
    "ready": ("hub", 0),
    "kernel_idle": ("kernel", 0),
    "first_cell": ("kernel", 1),
}
PHASE_MEANINGS = {
    "accepted": "the hub took the request",
    "submitted": "the scheduler has the job",
    "matched": "a slot is found",
    "executing": "the job runs",
    "hello": "the server listens and says so",
    "http": "it answered the hub",
    "routed": "the proxy knows the way",
    "ready": "the person is told",
    "kernel_idle": "a kernel is there",
    "first_cell": "its first result is there",
}
BARS = (("median", 0.5, 22), ("p95", 0.95, 14))
SERIES_LOOKS = 8  # so many line styles are in the style sheet

# From a share of all spawns to a height: the guides that people read off.
_GUIDES = (0.25, 0.5, 0.75, 0.95, 1.0)
# Beyond this factor between the slowest and the fastest a linear axis would show only the slowest.
_LOG_BEYOND = 10.0
_HEAD, _GAP, _FOOT = 24, 6, 44
_LABEL = 62


def phase_words(phase: str) -> str:
    return phase.replace("_", " ")


def waterfall(all_series: Sequence[Series], width: int) -> Markup:
    """A median and a p95 bar for each series, their phases one after the other."""
    steps = {(s.name, q): s.steps(q) for s in all_series for _, q, _ in BARS}
    longest = max((found[-1][2] for found in steps.values() if found), default=0.0)
    axis = Axis(0.0, round_up(longest or 1.0, _most(width)), _LABEL, width - 58)
    drawn: list[Markup] = []
    y = 0.0
    for series in all_series:
        drawn.append(_heading(series, y + 17, width))
        y += _HEAD
        if not series.ready:
            drawn.append(text("no spawn became ready", _LABEL, y + 14, "soft"))
            y += 22
        for label, q, height in BARS if series.ready else ():
            drawn.append(text(label, _LABEL - 8, y + height / 2 + 4.5, "soft", "end"))
            drawn += [_segment(axis, y, height, *step) for step in steps[series.name, q]]
            if found := steps[series.name, q]:
                total = found[-1][2]
                where = axis.place(total) + 7
                drawn.append(text(f"{seconds(total)} s", where, y + height / 2 + 4.5, "value"))
            y += height + _GAP
        y += 12
    grid = [
        element("line", x1=axis.place(v), x2=axis.place(v), y1=_HEAD, y2=y, class_="grid")
        for v in axis.ticks(_most(width))
    ]
    feet = [
        text(f"{v:g}", axis.place(v), y + 17, "soft", "middle") for v in axis.ticks(_most(width))
    ]
    title = text("seconds since the click", (_LABEL + width - 58) / 2, y + 36, "soft", "middle")
    label = "Spawn waterfall: phases one after the other, median and p95 of each series"
    return drawing(label, width, y + _FOOT, *grid, *drawn, *feet, title)


def _heading(series: Series, y: float, width: int) -> Markup:
    """A series' name and its count, cut where they would not fit."""
    name = cut(series.name, width)
    parts = [element("tspan", name, class_="name")]
    if fits(f"{name}  {series.count}", width):
        parts.append(element("tspan", f"  {series.count}", class_="soft"))
    return element("text", *parts, x=0, y=y, class_="heading")


def _segment(axis: Axis, y: float, height: float, phase: str, begin: float, end: float) -> Markup:
    """One phase of a bar; with its name or its seconds in it, where there is room."""
    owner, tint = PHASE_LOOKS[phase]
    x = axis.place(begin)
    width = axis.place(end) - x
    took = seconds(end - begin)
    words = phase_words(phase)
    # A hair of paper between neighbours tells them apart without their colours.
    shown = max(width - 1, 0.4)
    parts = [
        element("title", f"{words}: {took} s, at {seconds(end)} s"),
        element("rect", x=x, y=y, width=shown, height=height, class_=f"{owner} tint-{tint}"),
    ]
    label = next((w for w in (f"{words} {took}", words, took) if fits(w, width)), "")
    if label and height >= 16:
        parts.append(text(label, x + width / 2, y + height / 2 + 4.5, "inside", "middle"))
    return element("g", *parts)


def arrivals(all_series: Sequence[Series], phase: str, width: int) -> Markup:
    """The share of each series' spawns that had reached a phase, by seconds since the click (ECDF).

    Of all spawns that were asked for: one that failed never arrives, so its curve ends
    below 100 %. Those that the harness broke off count for nothing.
    """
    height, left, top = 290, 44, 12
    spans = {series.name: series.spans(phase) for series in all_series}
    everything = [span for found in spans.values() for span in found]
    axis = _time_axis(everything, left, width - 14, _most(width))
    share = Axis(0.0, 1.0, top + height, top)
    drawn = []
    for guide in _GUIDES:
        y = share.place(guide)
        drawn.append(element("line", x1=left, x2=axis.end_px, y1=y, y2=y, class_="grid"))
        drawn.append(text(f"{guide:.0%}", left - 6, y + 4.5, "soft", "end"))
    for v in axis.ticks(_most(width)):
        x = axis.place(v)
        drawn.append(element("line", x1=x, x2=x, y1=top, y2=top + height, class_="grid"))
        drawn.append(text(f"{v:g}", x, top + height + 17, "soft", "middle"))
    for number, series in enumerate(all_series):
        if found := spans[series.name]:
            drawn.append(_curve(series, number, found, axis, share))
    words = "seconds since the click" + (", logarithmic" if axis.log else "")
    drawn.append(text(words, (left + axis.end_px) / 2, top + height + 36, "soft", "middle"))
    label = f"Share of spawns with {phase_words(phase)} reached, by seconds since the click"
    return drawing(label, width, top + height + _FOOT, *drawn)


def _curve(series: Series, number: int, found: Sequence[float], axis: Axis, share: Axis) -> Markup:
    """One series' steps; a curve that never reaches the top runs on to the edge, with a cross."""
    look = f"curve look-{number % SERIES_LOOKS}"
    path = [f"M{axis.place(found[0]):.1f} {share.place(0):.1f}"]
    for n, value in enumerate(found, 1):
        path.append(f"H{axis.place(value):.1f}V{share.place(n / series.judged):.1f}")
    parts = [element("title", f"{series.name}, {series.count}")]
    if len(found) < series.judged:
        y = share.place(len(found) / series.judged)
        path.append(f"H{axis.end_px:.1f}")
        parts.append(cross(axis.end_px - 5, y, 4, f"end look-{number % SERIES_LOOKS}"))
    return element("g", *parts, element("path", d="".join(path), class_=look))


def cross(x: float, y: float, size: float, class_: str) -> Markup:
    """The mark of what failed."""
    path = f"M{x - size:.1f} {y - size:.1f}l{2 * size:g} {2 * size:g}m0 {-2 * size:g}"
    return element("path", d=f"{path}l{-2 * size:g} {2 * size:g}", class_=class_)


def _time_axis(values: Sequence[float], begin_px: float, end_px: float, most: int) -> Axis:
    high = max(values, default=1.0) or 1.0
    low = min((v for v in values if v > 0), default=high)
    if high / low > _LOG_BEYOND:
        return Axis(low / 1.15, high * 1.15, begin_px, end_px, log=True)
    return Axis(0.0, round_up(high * 1.02, most), begin_px, end_px)


def _most(width: float) -> int:
    return 10 if width > 700 else 6
