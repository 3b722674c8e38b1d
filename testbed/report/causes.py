"""Errors by cause: spawns that failed for the same reason, counted together."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from testbed.report.plain_text import shortened, without_secrets
from testbed.report.series import Series
from testbed.results import SpawnRecord

OUTCOMES = {"ready": "ready", "failed": "failed", "bed_broke": "harness broke"}

_NUMBERS = re.compile(r"0x[0-9a-fA-F]+|\d+")


@dataclass(frozen=True)
class Cause:
    """Why spawns failed: the first one's reason, and whom it hit."""

    count: int
    outcome: str
    reason: str
    series: tuple[str, ...]
    example: str  # the person, the server if it had a name, the round


def causes(all_series: Sequence[Series]) -> list[Cause]:
    """All causes of a run, the most frequent first.

    Reasons that differ only in numbers or in the person's and the server's name are one.
    """
    found: dict[tuple[str, str], list[tuple[str, SpawnRecord]]] = {}
    for series in all_series:
        for record in series.records:
            if record.outcome != "ready":
                key = (record.outcome, _alike(record))
                found.setdefault(key, []).append((series.name, record))
    listed = [_cause(outcome, hits) for (outcome, _), hits in found.items()]
    return sorted(listed, key=lambda cause: (-cause.count, cause.outcome, cause.reason))


def reason(record: SpawnRecord) -> str:
    """A record's reason, fit to be shown."""
    return shortened(without_secrets(record.reason.strip())) or "no reason was given"


def server(record: SpawnRecord) -> str:
    """Whose server it was; `alice/gpu` if it had a name."""
    return "/".join(filter(None, (record.user, record.server)))


def _cause(outcome: str, hits: Sequence[tuple[str, SpawnRecord]]) -> Cause:
    _, first = hits[0]
    names = dict.fromkeys(name for name, _ in hits)
    return Cause(
        len(hits),
        OUTCOMES[outcome],
        reason(first),
        tuple(names),
        f"{server(first)}, round {first.round}",
    )


def _alike(record: SpawnRecord) -> str:
    text = reason(record)
    for name in (record.user, record.server):
        if name:
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "NAME", text)
    return _NUMBERS.sub("0", text)
