"""The page itself: what stands in it, as one HTML file that asks nobody for anything."""

import base64
import datetime
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

import testbed
from testbed.latency_table import COLUMNS
from testbed.report import charts, numbers
from testbed.report.causes import OUTCOMES, causes, reason, server
from testbed.report.plain_text import printable, shortened, without_secrets
from testbed.report.series import Series, series_of
from testbed.report.timeline import timeline
from testbed.report.verdict import verdict
from testbed.results import Results, SpawnRecord, quantile

WIDE, HALF, NARROW = 1000, 486, 340
ARRIVALS = ("ready", "first_cell")
# A person looks through so many at most; results.json has all.
MOST_LISTED = 2000
# Below this, p95 lies between the two slowest spawns.
ENOUGH_FOR_P95 = 20

_FOLDER = Path(__file__).resolve().parent / "templates"


@dataclass(frozen=True)
class Chart:
    """A drawing for a screen or paper, and the same for a telephone."""

    wide: Markup
    narrow: Markup


def render(results: Results) -> str:
    """The whole page. The same results make the same page, byte for byte."""
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_shown,
    )
    style, script = (
        (_FOLDER / name).read_text(encoding="utf-8") for name in ("page.css", "page.js")
    )
    all_series = series_of(results.spawns)
    return environment.get_template("page.html").render(
        results=results,
        verdict=verdict(results),
        policy=_policy(style, script),
        style=Markup(style),  # noqa: S704 - a file of ours, as the next one
        script=Markup(script),  # noqa: S704
        made_by=testbed.__version__,
        all_series=all_series,
        causes=causes(all_series),
        load=_load(results),
        groups=numbers.groups(results.figures),
        charts=_charts(all_series, results.begin),
        phases=_phases(all_series),
        spawns=_listed(all_series),
        most_listed=MOST_LISTED,
        few=any(0 < len(series.ready) < ENOUGH_FOR_P95 for series in all_series),
        enough=ENOUGH_FOR_P95,
        looks=charts,
        seconds=numbers.seconds,
        duration=numbers.duration,
        counted=numbers.counted,
        number=numbers.number,
        settings={name: _setting(value) for name, value in results.settings.items()},
        when=_when(results.begin, results.end),
    )


def _load(results: Results) -> dict[str, float | None]:
    """Medians of what the machine did beside the run."""
    return {
        "load": quantile((sample.load_1min for sample in results.load), 0.5),
        "busy": quantile((sample.cpu_busy for sample in results.load), 0.5),
    }


def _charts(all_series: Sequence[Series], begin: datetime.datetime) -> dict[str, Chart]:
    if not all_series:
        return {}
    found = {
        "waterfall": Chart(*(charts.waterfall(all_series, width) for width in (WIDE, NARROW))),
        "timeline": Chart(*(timeline(all_series, begin, width) for width in (WIDE, NARROW))),
    }
    for phase in ARRIVALS:
        if any(series.spans(phase) for series in all_series):
            found[phase] = Chart(
                *(charts.arrivals(all_series, phase, width) for width in (HALF, NARROW))
            )
    return found


def _phases(all_series: Sequence[Series]) -> list[str]:
    """The phases that any spawn of the run reached."""
    return [phase for phase in COLUMNS if any(series.spans(phase) for series in all_series)]


@dataclass(frozen=True)
class Line:
    """One spawn in the list of all."""

    series: str
    server: str
    round: int
    at: str
    outcome: str
    ready: float | None
    first_cell: float | None
    reason: str


def _listed(all_series: Sequence[Series]) -> list[Line]:
    """Every spawn, by the time of its click."""
    known = [
        (record.own_unix_s.get("click", 0.0), series.name, record)
        for series in all_series
        for record in series.records
    ]
    return [_line(name, at, record) for at, name, record in sorted(known, key=lambda k: k[0])]


def _line(series: str, at: float, record: SpawnRecord) -> Line:
    return Line(
        series,
        server(record),
        record.round,
        _time_of_day(at),
        OUTCOMES[record.outcome],
        record.since_click("ready") if record.outcome == "ready" else None,
        record.since_click("first_cell"),
        reason(record) if record.outcome != "ready" else "",
    )


def _time_of_day(unix_s: float) -> str:
    try:
        return f"{datetime.datetime.fromtimestamp(unix_s, datetime.UTC):%H:%M:%S}"
    except (OverflowError, ValueError, OSError):
        return numbers.NONE


def _when(begin: datetime.datetime, end: datetime.datetime) -> str:
    first, last = (moment.astimezone(datetime.UTC) for moment in (begin, end))
    until = f"{last:%H:%M}" if first.date() == last.date() else f"{last:%d %B %Y, %H:%M}"
    return f"{first:%d %B %Y, %H:%M} – {until} UTC".lstrip("0")


def _setting(value: object) -> str:
    words = {None: "not set", True: "yes", False: "no"}
    if value is None or isinstance(value, bool):
        return words[value]
    return f"{value:g}" if isinstance(value, float) else shortened(without_secrets(str(value)), 300)


def _policy(style: str, script: str) -> str:
    """What the browser may do: draw, with our style and our script and nothing else."""
    return (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _hash(content: str) -> str:
    digest = hashlib.sha256(content.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _shown(value: object) -> object:
    """What a template writes out: without what could not be seen or would turn the rest."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return printable(value)
    return value
