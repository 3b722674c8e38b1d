"""An XCache: what its monitor has counted, and its disk against its marks.

Source: XRootD's `pfc.diskusage` (5.8): shares of the file system between which it is purged,
and how much its files may hold in any case.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from afportal.exporter.readings import Away

_UNITS = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}

_TOTALS = {
    "read_bytes": "Bytes given to readers",
    "fetched_bytes": "Bytes that came from the origin for them, and ahead of them",
    "checksum_errors": "Damaged pages that came from the origin",
}


@dataclass(frozen=True)
class Marks:
    """`pfc.diskusage LOW HIGH [files BASE NOMINAL MOST]`; shares in LOW and HIGH."""

    high: float
    most_files_bytes: int | None = None

    @classmethod
    def parse(cls, text: str) -> Marks:
        """Read the setting as the cache's own configuration has it.

        Raises:
            ValueError: it says something else.
        """
        words = text.split()
        most = None
        if len(words) == 6 and words[2] == "files":
            number, unit = words[5][:-1], words[5][-1].lower()
            most = int(float(number) * _UNITS[unit]) if unit in _UNITS else int(words[5])
        elif len(words) != 2:
            raise ValueError(f"{text!r} is not LOW HIGH [files BASE NOMINAL MOST]")
        return cls(float(words[1]), most)


class Cache:
    """One cache.

    Args:
        files: its folder, readable.
        totals: what `xrootd-monitor` has counted so far.
        marks: its `pfc.diskusage`.
    """

    name = "xcache"

    def __init__(self, files: Path, totals: Path, marks: Marks) -> None:
        self._files = files
        self._totals = totals
        self._marks = marks

    def read(self) -> list[Metric]:
        """Read totals and disk. Raises `Away`."""
        try:
            totals = json.loads(self._totals.read_text())
            system = os.statvfs(self._files)
            held = _held_bytes(self._files)
        except (OSError, ValueError) as error:
            raise Away(f"xcache: {error}") from error
        reads = CounterMetricFamily(
            "xcache_reads", "Files closed by readers; a hit had all its bytes on the cache's disk",
            labels=["outcome"],
        )  # fmt: skip
        for outcome in ("hit", "miss"):
            reads.add_metric([outcome], totals.get(outcome, 0))
        size = system.f_blocks * system.f_frsize
        used = size - system.f_bfree * system.f_frsize
        gauges = {
            "xcache_files_bytes": ("What the cache's files hold", held),
            "xcache_disk_used_bytes": ("What is used of its file system, by whomever", used),
            "xcache_disk_high_mark_bytes": (
                "Its file system is purged above this", size * self._marks.high,
            ),
        }  # fmt: skip
        if self._marks.most_files_bytes is not None:
            gauges["xcache_files_most_bytes"] = (
                "What its files may hold in any case", self._marks.most_files_bytes,
            )  # fmt: skip
        return [
            reads,
            *(CounterMetricFamily(f"xcache_{name}", words, value=totals.get(name, 0))
              for name, words in _TOTALS.items()),
            *(GaugeMetricFamily(name, words, value=value)
              for name, (words, value) in gauges.items()),
        ]  # fmt: skip


def _held_bytes(folder: Path) -> int:
    """Bytes on disk of all files below a folder; one that goes meanwhile counts nothing."""
    total, waiting = 0, [folder]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))
                    continue
                try:
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
                except FileNotFoundError:
                    continue
    return total
