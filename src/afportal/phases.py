"""Time stamps of a spawn, and what of them Prometheus sees.

    accepted → submitted → matched → executing → hello → http → routed

`http` is when the hub's own probe of the server answered, `routed` when its proxy knows
the way. A stamp is unix seconds on the hub's clock; `matched` and `executing` come from
the scheduler or the job and are kept between the hub's own stamps around them.
"""

from __future__ import annotations

import itertools
import time

from prometheus_client import Counter, Gauge, Histogram

PHASES = ("accepted", "submitted", "matched", "executing", "hello", "http", "routed")

# Fine where an interactive start lives, coarse where a queue does.
_BUCKETS_S = (
    0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 4, 5, 7.5,
    10, 15, 20, 30, 60, 120, 300, 600,
)  # fmt: skip

PHASE_SECONDS = Histogram(
    "afportal_spawn_phase_seconds",
    "Seconds from the phase before to this one",
    ["backend", "phase"],
    buckets=_BUCKETS_S,
)
SPAWN_SECONDS = Histogram(
    "afportal_spawn_seconds",
    "Seconds from accepted to routed",
    ["backend"],
    buckets=_BUCKETS_S,
)
QUERIES = Counter(
    "afportal_scheduler_queries", "Queries sent to a scheduler", ["scheduler", "kind"]
)
SPAWNS_FAILED = Counter("afportal_spawns_failed", "Spawns that failed", ["backend", "cause"])
CAUSES = (
    "options", "account", "preflight", "refused", "scheduler", "held", "ended", "cancelled",
)  # fmt: skip
FOLLOWED = Gauge(
    "afportal_queue_followed_jobs", "Jobs that a queue monitor asks for", ["scheduler"]
)
ANSWERED = Gauge(
    "afportal_queue_answer_timestamp_seconds",
    "When a scheduler last answered the queue monitor's bulk query",
    ["scheduler"],
)
CREDENTIALS = Counter(
    "afportal_credentials",
    "Credentials of people's that were made or renewed, or could not be",
    ["credential", "outcome"],
)


def expect(backend: str) -> None:
    """Show a backend's figures as 0 before its first spawn.

    A counter that appears with its first count has no rise that Prometheus could see.
    """
    SPAWN_SECONDS.labels(backend)
    for cause in CAUSES:
        SPAWNS_FAILED.labels(backend, cause)


def expect_credential(credential: str) -> None:
    """The same for a credential that this hub gives its sessions."""
    for outcome in ("made", "failed"):
        CREDENTIALS.labels(credential, outcome)


class Stamps:
    """The stamps of one spawn, in the order in which the phases follow each other."""

    def __init__(self, stamps: dict[str, float] | None = None) -> None:
        self._stamps: dict[str, float] = dict(stamps or {})

    def stamp(self, phase: str, at_s: float | None = None) -> float:
        """Record a phase once; a later call for the same phase changes nothing.

        Args:
            phase: one of `PHASES`.
            at_s: unix seconds as the scheduler or the job says; kept between the last
                earlier phase and now, so that a clock that is off cannot spoil a record.
        """
        if phase in self._stamps:
            return self._stamps[phase]
        now = time.time()
        value = now if at_s is None else at_s
        earlier = [self._stamps[p] for p in PHASES[: PHASES.index(phase)] if p in self._stamps]
        later = [self._stamps[p] for p in PHASES[PHASES.index(phase) :] if p in self._stamps]
        value = min([value, now, *later])
        value = max([value, *earlier])
        self._stamps[phase] = value
        return value

    def as_dict(self) -> dict[str, float]:
        """Return phase → unix seconds in the order of `PHASES`."""
        return {phase: self._stamps[phase] for phase in PHASES if phase in self._stamps}

    def observe(self, backend: str) -> None:
        """Hand the finished record to Prometheus."""
        known = list(self.as_dict().items())
        for (_, before_s), (phase, at_s) in itertools.pairwise(known):
            PHASE_SECONDS.labels(backend, phase).observe(at_s - before_s)
        stamps = dict(known)
        if "accepted" in stamps and "routed" in stamps:
            SPAWN_SECONDS.labels(backend).observe(stamps["routed"] - stamps["accepted"])
