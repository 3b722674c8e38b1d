"""Figures of a run in which the portal and stock batchspawner took turns."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from testbed.intervals import Sample, median_ratio, median_s
from testbed.results import (
    Comparison,
    LoadSample,
    SpawnRecord,
    Target,
    latency_figures,
    quantile,
    spans,
)

CONFIDENCE = 0.95
# Fewer say nothing: an interval of two rounds is the whole line.
LEAST_ROUNDS = 3


@dataclass(frozen=True)
class Question:
    """One ratio that is asked for: whose medians, and what it is to be at most."""

    figure: str
    title: str
    backend: str
    rival: Target
    goal: float
    burst: int = 0


BURST = 20
QUESTIONS = (
    Question("htcondor_vs_stock_tuned_ratio", "HTCondor, same pool", "htcondor", "stock", 0.2),
    Question(
        "htcondor_vs_stock_default_ratio", "HTCondor, against a pool with its defaults",
        "htcondor", "stock_default", 0.04,
    ),
    Question("slurm_vs_stock_ratio", "Slurm, same cluster", "slurm", "stock", 0.3),
    Question(
        f"burst{BURST}_vs_stock_ratio", f"HTCondor, {BURST} at once: the last one ready",
        "htcondor", "stock", 0.35, BURST,
    ),
)  # fmt: skip


def compare(records: Iterable[SpawnRecord]) -> list[Comparison]:
    """Every question that the records answer, with its interval.

    Rounds are drawn as a whole, from the portal's and the rival's by themselves: what a busy
    machine did to a round stays in it, and widens the interval.
    """
    records = list(records)
    found = []
    for question in QUESTIONS:
        portal = _sample(records, question, "portal")
        rival = _sample(records, question, question.rival)
        if min(len(portal.units), len(rival.units)) < LEAST_ROUNDS:
            continue
        ratio = median_ratio(rival, portal, CONFIDENCE)
        found.append(
            Comparison(
                figure=question.figure,
                title=question.title,
                n=len(portal),
                rival_n=len(rival),
                p50_s=round(median_s(portal), 4),
                rival_p50_s=round(median_s(rival), 4),
                ratio=round(ratio.value, 4),
                low=round(ratio.low, 4),
                high=round(ratio.high, 4),
                goal=question.goal,
            )
        )
    return found


def figures(
    records: Sequence[SpawnRecord], comparisons: Iterable[Comparison], load: Sequence[LoadSample]
) -> dict[str, float]:
    """The portal's medians, each ratio with the ends of its interval, and the machine's load.

    `ready_p95_over_p50` is the worse of the backends; `failed` counts the portal's spawns alone.
    """
    alone = [r for r in records if not r.burst]
    own = [r for r in alone if r.target == "portal"]
    backends = list(dict.fromkeys(r.backend for r in own))
    found = latency_figures(own, backends)
    spread = [
        p95 / p50
        for ready in (spans(own, backend, "ready") for backend in backends)
        if (p95 := quantile(ready, 0.95)) and (p50 := quantile(ready, 0.5))
    ]
    if spread:
        found["ready_p95_over_p50"] = round(max(spread), 4)
    for c in comparisons:
        stem = c.figure.removesuffix("_ratio")
        found |= {
            c.figure: c.ratio, f"{stem}_low_ratio": c.low, f"{stem}_high_ratio": c.high,
            f"{stem}_n": c.n, f"{stem}_stock_p50_s": c.rival_p50_s,
        }  # fmt: skip
        if c.figure.startswith("burst"):
            found[f"{stem.partition('_')[0]}_ready_p50_s"] = c.p50_s
    found["failed"] = _failed(records, "portal")
    found["stock_failed"] = _failed(records, "stock") + _failed(records, "stock_default")
    return found | _load(load)


def missed(comparisons: Iterable[Comparison]) -> list[str]:
    """What surely is not as fast as it is to be, a line each."""
    return [
        f"{c.figure} is {c.ratio:.3f} [{c.low:.3f}, {c.high:.3f}]; {c.goal:g} is the goal"
        for c in comparisons
        if c.verdict == "missed"
    ]


def _sample(records: Iterable[SpawnRecord], question: Question, target: Target) -> Sample:
    mine = [
        r
        for r in records
        if (r.backend, r.target, r.burst) == (question.backend, target, question.burst)
    ]
    values = _last_of_bursts(mine) if question.burst else _ready(mine)
    return Sample(
        tuple(span for _, span in values),
        (question.backend,) * len(values),
        tuple(number for number, _ in values),
    )


def _ready(records: Iterable[SpawnRecord]) -> list[tuple[int, float]]:
    """Round and seconds from click to ready of each spawn that was."""
    return [
        (r.round, span)
        for r in records
        if r.outcome == "ready" and (span := r.since_click("ready")) is not None
    ]


def _last_of_bursts(records: Iterable[SpawnRecord]) -> list[tuple[int, float]]:
    """Round and seconds from the first click to the last one ready, of bursts without a failure."""
    by_round: dict[int, list[SpawnRecord]] = {}
    for record in records:
        by_round.setdefault(record.round, []).append(record)
    found = []
    for number, crowd in by_round.items():
        stamps: list[Mapping[str, float]] = [r.own_unix_s for r in crowd]
        if all(r.outcome == "ready" and "ready" in r.own_unix_s for r in crowd):
            found.append(
                (number, max(s["ready"] for s in stamps) - min(s["click"] for s in stamps))
            )
    return found


def _failed(records: Iterable[SpawnRecord], target: Target) -> int:
    return sum(r.target == target and r.outcome != "ready" for r in records)


def _load(load: Sequence[LoadSample]) -> dict[str, float]:
    if not load:
        return {}
    busy = [sample.cpu_busy for sample in load]
    averages = [sample.load_1min for sample in load]
    return {
        "load_1min_p50": round(quantile(averages, 0.5) or 0.0, 3),
        "load_1min_max": round(max(averages), 3),
        "background_cpu_p50_ratio": round(quantile(busy, 0.5) or 0.0, 3),
        "background_cpu_p95_ratio": round(quantile(busy, 0.95) or 0.0, 3),
    }
