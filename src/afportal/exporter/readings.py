"""Asks each source in its own rhythm and shows what it said last."""

from __future__ import annotations

import logging
import subprocess
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

log = logging.getLogger("afportal.exporter")

TIMEOUT_S = 10


class Away(Exception):
    """A source did not answer, or not what it should."""


class Source(Protocol):
    """Something that is asked for figures."""

    name: str

    def read(self) -> list[Metric]:
        """Ask once. Raises `Away`."""


@dataclass(frozen=True)
class Turn:
    """What one question brought; no figures from a source that is away."""

    up: bool
    took_s: float
    metrics: tuple[Metric, ...] = ()


class Readings(Collector):
    """The last turn of each source, for a page that costs no question.

    Figures of a source that is away are not shown: a stale one would look like a good one.
    """

    def __init__(self) -> None:
        self._turns: dict[str, Turn] = {}

    def take(self, source: Source) -> None:
        """Ask a source now and keep what it says."""
        before = self._turns.get(source.name)
        started = time.monotonic()
        try:
            metrics = tuple(source.read())
        except Exception as error:
            if not isinstance(error, Away):  # a fault of ours must not leave old figures either
                log.exception("%s", source.name)
            elif before is None or before.up:
                log.warning("%s: %s", source.name, error)
            self._turns[source.name] = Turn(False, time.monotonic() - started)
            return
        if before is not None and not before.up:
            log.info("%s answers again", source.name)
        self._turns[source.name] = Turn(True, time.monotonic() - started, metrics)

    def follow(self, source: Source, every_s: float) -> None:
        """Ask a source for ever, in a thread of its own."""

        def ask() -> None:
            while True:
                self.take(source)
                over.wait(every_s)

        over = threading.Event()
        threading.Thread(target=ask, name=source.name, daemon=True).start()

    def collect(self) -> Iterable[Metric]:
        """Return all families; those that several sources have, once."""
        up = GaugeMetricFamily(
            "exporter_source_up", "Whether a source answered when last asked", labels=["source"]
        )
        took = GaugeMetricFamily(
            "exporter_source_read_seconds", "How long its answer took", labels=["source"]
        )
        families: dict[str, Metric] = {}
        for name, turn in sorted(self._turns.copy().items()):
            up.add_metric([name], turn.up)
            took.add_metric([name], turn.took_s)
            for metric in turn.metrics:
                known = families.setdefault(
                    metric.name, Metric(metric.name, metric.documentation, metric.type)
                )
                known.samples = [*known.samples, *metric.samples]
        return [up, took, *families.values()]


def run(argv: Sequence[str]) -> str:
    """Return what a scheduler's client prints. Raises `Away`."""
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Away(f"{argv[0]} did not answer within {TIMEOUT_S} s") from None
    except OSError as error:
        raise Away(f"{argv[0]}: {error.strerror}") from error
    if done.returncode != 0:
        raise Away(f"{argv[0]}: {' '.join(done.stderr.split())[:200]}")
    return done.stdout
