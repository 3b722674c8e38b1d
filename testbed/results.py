"""results.json: what one run of a benchmark measured, in a versioned schema that others read."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from testbed.errors import UsageError

SCHEMA_VERSION: Literal[1] = 1

# The hub's own phases of a spawn, in order; it stamps them with its clock.
HUB_PHASES = ("accepted", "submitted", "matched", "executing", "hello", "http", "routed")
# All phases as the judges stamp them with their own clock.
OWN_PHASES = (
    "click", *HUB_PHASES, "ready", "kernel_asked", "kernel_idle", "first_cell", "computed",
    "stop_asked", "gone", "job_gone",
)  # fmt: skip
# What a person does before the click, where a behaviour has it.
ENTRY_PHASES = ("login_asked", "logged_in", "page_asked", "page_shown")

_PACKAGES = ("af-testbed", "jupyter_client", "locust", "nbclient", "pydantic", "requests")


# Whose spawn it was: the portal's, or one of those that it is compared with.
Target = Literal["portal", "stock", "stock_default"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SpawnRecord(_Part):
    """One spawn from the click to the end of its server.

    `own_unix_s` are stamps of the judge's clock, at the moment it learnt of a phase;
    `hub_unix_s` are the hub's stamps of the same phases. A phase the scheduler has no
    notion of, or that was not reached, is not there.
    """

    user: str
    server: str = ""
    hub: str
    backend: str
    target: Target = "portal"
    burst: int = Field(default=0, ge=0)  # of how many that clicked at once; 0: by itself
    options: dict[str, str | int] = Field(default_factory=dict)
    round: int = Field(default=0, ge=0)
    outcome: Literal["ready", "failed", "bed_broke"] = "ready"
    reason: str = ""
    cause: str = ""  # of `testbed.causes`; empty for a spawn that became ready
    behaviour: str = ""
    job_id: str = ""  # the scheduler's, where the portal tells it
    own_unix_s: dict[str, float] = Field(default_factory=dict)
    hub_unix_s: dict[str, float] = Field(default_factory=dict)

    def since_click(self, phase: str) -> float | None:
        """Seconds on the judge's clock from the click to a phase; None if not reached."""
        return self.span("click", phase)

    def span(self, begin: str, end: str) -> float | None:
        """Seconds on the judge's clock between two phases; None if either was not reached."""
        if begin in self.own_unix_s and end in self.own_unix_s:
            return self.own_unix_s[end] - self.own_unix_s[begin]
        return None

    def happened_unix_s(self, phase: str) -> float | None:
        """When a phase happened, on the judge's clock; None if it was not reached.

        A judge hears of a phase a little after it happened: of `accepted`, only once the
        progress stream is open. So the hub's stamp counts, moved by the smallest delay
        between stamp and hearing that the record has, which holds the two clocks' offset.
        """
        if phase not in self.hub_unix_s:
            return self.own_unix_s.get(phase)
        heard = self.own_unix_s.keys() & self.hub_unix_s.keys()
        if not heard:
            return self.hub_unix_s[phase]
        return self.hub_unix_s[phase] + min(self.own_unix_s[p] - self.hub_unix_s[p] for p in heard)

    def hub_span(self, begin: str, end: str) -> float | None:
        """Seconds on the hub's clock between two phases; None if either was not stamped."""
        if begin in self.hub_unix_s and end in self.hub_unix_s:
            return self.hub_unix_s[end] - self.hub_unix_s[begin]
        return None


class Machine(_Part):
    """Where the judges ran; of the testbed, that is the facility's machine too."""

    cpus: int
    memory_mib: int
    architecture: str
    kernel: str
    python: str


class LoadAverage(_Part):
    """The machine's one-minute load average as the run began and ended."""

    begin: float
    end: float


class LoadSample(_Part):
    """What the machine did at a moment when the judges had nothing started."""

    unix_s: float
    load_1min: float
    cpu_busy: float = Field(ge=0, le=1)  # of all cores, in the quarter second before


class Comparison(_Part):
    """The portal's median over a rival's, of spawns in turns in one run; times in seconds.

    `low` and `high` are the ends of the ratio's confidence interval.
    """

    figure: str  # the ratio's name among the figures
    title: str
    n: int = Field(ge=1)
    rival_n: int = Field(ge=1)
    p50_s: float
    rival_p50_s: float
    ratio: float
    low: float
    high: float
    goal: float  # the ratio is to be no more

    @property
    def verdict(self) -> Literal["kept", "missed", "unclear"]:
        """Kept or missed where the whole interval says so."""
        if self.high <= self.goal:
            return "kept"
        return "missed" if self.low > self.goal else "unclear"


class Results(_Part):
    """One run: every spawn, the figures made from them, and what the run stood on."""

    schema_version: Literal[1] = SCHEMA_VERSION
    command: str
    site: str
    begin: datetime
    end: datetime
    machine: Machine
    versions: dict[str, str] = Field(default_factory=dict)
    settings: dict[str, str | int | float | bool | None] = Field(default_factory=dict)
    load_average_1min: LoadAverage
    spawns: tuple[SpawnRecord, ...] = ()
    figures: dict[str, float] = Field(default_factory=dict)
    comparisons: tuple[Comparison, ...] = ()
    load: tuple[LoadSample, ...] = ()
    failures: tuple[str, ...] = ()  # what was not as promised, a line each

    def write(self, folder: Path) -> Path:
        """Write `results.json` into a run's folder, whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "results.json"
        part = folder / "results.json.part"
        part.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")
        part.replace(path)
        return path

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a results file of this schema.

        Raises:
            UsageError: Not readable, not of this schema version, or wrong in its fields.
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(f"{path} is no results file", seen=str(error)) from error
        found = data.get("schema_version") if isinstance(data, dict) else None
        if found != SCHEMA_VERSION:
            raise UsageError(
                f"{path} has results of schema {found!r}",
                seen=f"this testbed reads {SCHEMA_VERSION}",
                cure="run the benchmark again with this version",
            )
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise UsageError(f"{path} is no results file", seen=str(error)) from error


class Run:
    """Notes the circumstances of a run as it begins, and makes its `Results` at the end."""

    def __init__(
        self, command: str, site: str, settings: dict[str, str | int | float | bool | None]
    ):
        self.command = command
        self.site = site
        self.settings = settings
        self.begin = datetime.now(UTC)
        self._load_begin = os.getloadavg()[0]

    @property
    def name(self) -> str:
        """A folder name for the run: its time in UTC and its command."""
        return f"{self.begin:%Y%m%dT%H%M%SZ}-{self.command.replace(' ', '-')}"

    def results(
        self,
        spawns: Sequence[SpawnRecord],
        figures: dict[str, float],
        versions: dict[str, str] | None = None,
        failures: Sequence[str] = (),
        *,
        comparisons: Sequence[Comparison] = (),
        load: Sequence[LoadSample] = (),
    ) -> Results:
        """All that was measured; `versions` adds the facility's to the harness's own."""
        return Results(
            command=self.command,
            site=self.site,
            begin=self.begin,
            end=datetime.now(UTC),
            machine=this_machine(),
            versions={**harness_versions(), **(versions or {})},
            settings=self.settings,
            load_average_1min=LoadAverage(begin=self._load_begin, end=os.getloadavg()[0]),
            spawns=tuple(spawns),
            figures=figures,
            comparisons=tuple(comparisons),
            load=tuple(load),
            failures=tuple(failures),
        )


def this_machine() -> Machine:
    """Describe the machine that the judges run on."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Machine(
        cpus=os.cpu_count() or 1,
        memory_mib=pages // 2**20,
        architecture=platform.machine(),
        kernel=platform.release(),
        python=platform.python_version(),
    )


def harness_versions() -> dict[str, str]:
    """Versions of the packages that measure; one that is not installed is left out."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def quantile(values: Iterable[float], q: float) -> float | None:
    """The q-quantile with linear interpolation between neighbours; None of no values.

    Args:
        values: Any order.
        q: 0 … 1; 0.5 is the median.

    Source: Hyndman and Fan (1996), definition 7, as numpy's default.
    """
    ordered = sorted(values)
    if not ordered:
        return None
    if q == 0.5:
        return statistics.median(ordered)
    place = q * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def spans(
    records: Iterable[SpawnRecord], backend: str, phase: str, *, outcome: str = "ready"
) -> list[float]:
    """Seconds from click to `phase` of a backend's spawns that got there."""
    found = (r.since_click(phase) for r in records if r.backend == backend and r.outcome == outcome)
    return [span for span in found if span is not None]


def latency_figures(records: Sequence[SpawnRecord], backends: Iterable[str]) -> dict[str, float]:
    """Medians by backend, as `design.md` names them; a figure without a value is left out."""
    figures = {}
    for backend in backends:
        for phase, name in (("ready", "ready"), ("first_cell", "first_cell")):
            median = quantile(spans(records, backend, phase), 0.5)
            if median is not None:
                figures[f"{backend}_{name}_p50_s"] = round(median, 4)
    return figures


def stamp(stamps: dict[str, float], phase: str, clock: Callable[[], float] = time.time) -> None:
    """Note when a phase was first seen; a later sight of it changes nothing."""
    stamps.setdefault(phase, clock())
