"""The drawing of a run: every spawn as a line over wall time."""

import datetime
import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from testbed.report.causes import reason, server
from testbed.report.charts import cross
from testbed.report.numbers import seconds
from testbed.report.series import Series
from testbed.report.svg import Axis, cut, drawing, element, text
from testbed.results import SpawnRecord

# Ticks that a clock has; then days.
_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400)
_HEAD, _FOOT = 24, 44
_MARK_PX = 11  # what the mark of a spawn that was not ready takes behind its line
# A word on each line makes the page heavy; so many lines are not pointed at one by one.
_MOST_TITLES = 1000


@dataclass(frozen=True)
class _Life:
    """One spawn from its click to the last that is known of it, in seconds of the run."""

    record: SpawnRecord
    begin: float
    ready: float
    end: float


def timeline(all_series: Sequence[Series], begin: datetime.datetime, width: int) -> Markup:
    """A line for each spawn, thick until it was ready or failed, thin while the server lived."""
    lives = {s.name: _lives(s.records, begin.timestamp()) for s in all_series}
    everything = [life for found in lives.values() for life in found]
    first = min((life.begin for life in everything), default=0.0)
    last = max((life.end for life in everything), default=1.0)
    # A run begins at 0; stamps of a clock that is off by more than itself have their own begin.
    axis = Axis(min(0.0, first) if last > 0 else first, max(last, first + 1.0), 4, width - 14)
    lanes = {name: _lanes(found, axis) for name, found in lives.items()}
    pitch = _pitch(sum(len(found) for found in lanes.values()))
    with_titles = len(everything) <= _MOST_TITLES
    drawn: list[Markup] = []
    y = 0.0
    for series in all_series:
        drawn.append(text(cut(series.name, width), 0, y + 16, "name"))
        y += _HEAD
        for lane in lanes[series.name]:
            drawn += [_line(life, axis, y + pitch / 2, pitch, with_titles) for life in lane]
            y += pitch
        y += 8
    step = next((s for s in _STEPS_S if (axis.high - axis.low) / s <= (10 if width > 700 else 5)),
                math.ceil((axis.high - axis.low) / 86400 / 5) * 86400)  # fmt: skip
    ticks = [n * step for n in range(math.ceil(axis.low / step), int(axis.high // step) + 1)]
    grid = [
        element("line", x1=axis.place(v), x2=axis.place(v), y1=_HEAD, y2=y, class_="grid")
        for v in ticks
    ]
    feet = [
        text(_clock(v), axis.place(v), y + 17, "soft", "start" if v == 0 else "middle")
        for v in ticks
    ]
    title = f"{_clock_words(step)} since {begin.astimezone(datetime.UTC):%H:%M:%S} UTC"
    feet.append(text(title, width / 2, y + 36, "soft", "middle"))
    label = "Timeline of the run: a line for each spawn over wall time"
    return drawing(label, width, y + _FOOT, *grid, *drawn, *feet)


def _lives(records: Sequence[SpawnRecord], zero: float) -> list[_Life]:
    found = []
    for record in records:
        stamps = [at for at in record.own_unix_s.values() if math.isfinite(at)]
        if stamps:
            begin, end = min(stamps) - zero, max(stamps) - zero
            ready = record.own_unix_s.get("ready", math.nan) - zero
            found.append(_Life(record, begin, ready if math.isfinite(ready) else end, end))
    return sorted(found, key=lambda life: (life.begin, life.end))


def _lanes(lives: Sequence[_Life], axis: Axis) -> list[list[_Life]]:
    """Spawns put into as few lanes as let none lie over another or its mark."""
    lanes: list[list[_Life]] = []
    ends_px: list[float] = []
    for life in lives:
        begin_px = axis.place(life.begin)
        number = next((n for n, end_px in enumerate(ends_px) if end_px <= begin_px), len(lanes))
        if number == len(lanes):
            lanes.append([])
            ends_px.append(0.0)
        lanes[number].append(life)
        mark_px = 0 if life.record.outcome == "ready" else _MARK_PX
        ends_px[number] = max(axis.place(life.end), begin_px + 1.5) + mark_px
    return lanes


def _line(life: _Life, axis: Axis, y: float, pitch: float, with_title: bool) -> Markup:
    outcome = life.record.outcome
    x1, x2 = axis.place(life.begin), axis.place(life.end)
    waited = axis.place(life.ready) if outcome == "ready" else x2
    thick = max(2.0, pitch * 0.6)
    parts = [element("title", _words(life))] if with_title else []
    if x2 > waited:
        parts.append(element("line", x1=waited, x2=x2, y1=y, y2=y, class_="life"))
    parts.append(
        element("rect", x=x1, y=y - thick / 2, width=max(waited - x1, 1.5), height=thick,
                class_=outcome.replace("_", "-"))
    )  # fmt: skip
    size = min(4.0, pitch / 2)
    if outcome == "failed":
        parts.append(cross(x2 + 5, y, size, "mark failed-mark"))
    elif outcome == "bed_broke":
        parts.append(element("circle", cx=x2 + 5, cy=y, r=size - 0.5, class_="mark broke-mark"))
    return element("g", *parts)


def _words(life: _Life) -> str:
    record = life.record
    who = f"{server(record)}, round {record.round}"
    if record.outcome == "ready":
        return f"{who}: ready after {seconds(record.since_click('ready'))} s"
    return (
        f"{who}: {record.outcome.replace('_', ' ')} after {seconds(life.end - life.begin)} s: "
        + (reason(record))
    )


def _pitch(lanes: int) -> float:
    """How high a lane is: less, the more there are."""
    return 14.0 if lanes <= 24 else 8.0 if lanes <= 80 else 4.0


def _clock(value_s: float) -> str:
    sign = "−" if value_s < 0 else ""
    minutes, rest = divmod(abs(int(value_s)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{sign}{hours}:{minutes:02}:{rest:02}" if hours else f"{sign}{minutes}:{rest:02}"


def _clock_words(step_s: float) -> str:
    return "hours, minutes and seconds" if step_s >= 3600 else "minutes and seconds"
