"""A map in words, and as a notebook shows it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from html import escape

from afportal.jobs.states import State
from afportal.maps.collect import Call, Seen

# How many calls a report tells in full.
_MOST = 20
_COLOURS = {
    State.COMPLETED: "#2e7d32", State.RUNNING: "#1565c0", State.IDLE: "#9e9e9e",
    State.SUSPENDED: "#6a1b9a", State.HELD: "#ef6c00", State.FAILED: "#c62828",
    State.REMOVED: "#5d4037", State.UNSUBMITTED: "#cfd8dc",
}  # fmt: skip


def words(seen: Seen) -> str:
    """Return how many calls are how, in one line."""
    counts = ", ".join(f"{number} {state}" for state, number in seen.counts().items())
    return f"{len(seen.calls)} calls: {counts}"


def _cure(call: Call) -> str:
    """What one does about it, where that is known."""
    if call.state is State.UNSUBMITTED:
        return "rerun() sends it"
    if call.error.get("type") == "ModuleNotFoundError":
        return (
            f"the worker has no module {call.error.get('module')}: put it where the notebook is, "
            "or into the environment that the notebook runs in, then rerun()"
        )
    if call.error.get("type") == "_TooLarge":
        return (
            "write it to a file in the function and return its path, or make the map with a "
            "larger result_limit_mib"
        )
    lower = call.reason.lower()
    if "memory" in lower and not call.error:
        again = "release()" if call.state is State.HELD else "rerun()"
        return f"set_memory(MiB), then {again}"
    return ""


def of_call(tag: str, call: Call) -> str:
    """Tell of one call without a value: what, why, its traceback, the cure."""
    where = f" on {call.node}" if call.node else ""
    lines = [f"call {call.number} of map {tag} {call.state}{where}"]
    if call.reason:
        lines[0] += f": {call.reason}"
    if cure := _cure(call):
        lines.append(f"→ {cure}")
    if trace := call.error.get("traceback", "").strip():
        lines.append(f"on the worker ({call.error['stage']}):\n{trace}")
    return "\n".join(lines)


def _report(tag: str, what: str, calls: Collection[Call], told: Callable[[Call], str]) -> str:
    if not calls:
        return f"no {what} calls in map {tag}"
    some = [*calls][:_MOST]
    left = f"\n\n… and {len(calls) - _MOST} more" if len(calls) > _MOST else ""
    return f"{len(calls)} {what} calls in map {tag}\n\n" + "\n\n".join(map(told, some)) + left


def errors(tag: str, calls: Collection[Call], output: Callable[[int], str]) -> str:
    """Tell of failed calls; of one whose job ended without a result also what that printed."""

    def told(call: Call) -> str:
        text = of_call(tag, call)
        printed = "" if call.error else output(call.number).strip()
        return f"{text}\nits job printed:\n{printed[-2000:]}" if printed else text

    return _report(tag, "failed", calls, told)


def holds(tag: str, calls: Collection[Call]) -> str:
    """Tell of held calls."""
    return _report(tag, "held", calls, lambda call: of_call(tag, call))


def html(tag: str, function: str, scheduler: str, seen: Seen) -> str:
    """Return it as HTML: a bar, the numbers, and what went wrong first."""
    total = len(seen.calls)
    counts = seen.counts()
    bar = "".join(
        f'<span title="{number} {state}" style="display:inline-block;height:100%;'
        f'width:{100 * number / total:.3f}%;background:{_COLOURS[state]}"></span>'
        for state, number in counts.items()
    )
    numbers = " · ".join(
        f'<span style="color:{_COLOURS[state]}">■</span> {number} {state}'
        for state, number in counts.items()
    )
    rows = "".join(
        f"<tr><td>{call.number}</td><td>{call.state}</td><td>{escape(call.node)}</td>"
        f'<td style="text-align:left">{escape(call.reason[:300])}</td></tr>'
        for call in seen.of(State.FAILED, State.HELD)[:5]
    )
    table = (
        f"<table><tr><th>call</th><th>state</th><th>node</th><th>reason</th></tr>{rows}</table>"
        if rows
        else ""
    )
    trouble = f"<div>{escape(seen.trouble)}</div>" if seen.trouble else ""
    return (
        f"<div><b>{escape(tag)}</b> — {escape(function)} on {escape(scheduler)}, {total} calls"
        f'<div role="img" aria-label="{escape(words(seen))}" style="height:10px;max-width:600px;'
        f'background:#eceff1;margin:4px 0">{bar}</div>{numbers}{trouble}{table}</div>'
    )
