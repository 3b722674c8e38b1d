"""Jobs as a notebook shows them."""

from __future__ import annotations

from collections.abc import Collection
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from afportal.jobs.job import Job

_MOST = 100
_TAIL = 300


def table(jobs: Collection[Job]) -> str:
    """Return jobs as HTML: id, state, reason, node, the end of what they printed."""
    rows = "".join(_row(job) for job in [*jobs][:_MOST])
    left = f"<div>… and {len(jobs) - _MOST} more</div>" if len(jobs) > _MOST else ""
    head = "".join(
        f"<th>{name}</th>"
        for name in ("job", "name", "scheduler", "state", "reason", "node", "output")
    )
    return f"<table><tr>{head}</tr>{rows}</table>{left}"


def _row(job: Job) -> str:
    seen = job.seen
    cells = (job.id or "–", job.fields.name, job.scheduler, str(seen.state), seen.reason, seen.node)
    text = job.output[-_TAIL:].strip() if job.id else ""
    shown = f'<pre style="margin:0;text-align:left">{escape(text)}</pre>'
    return f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}<td>{shown}</td></tr>"
