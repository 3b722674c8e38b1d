"""What a gate found, as rows of a table, Markdown for a merge request, JUnit, figures."""

from collections.abc import Sequence

from testbed import markup
from testbed.gate import Comparison, Failures, Judgement

# The ratio of two spans shorter than this is of noise.
_TELLING_S = 0.005

TOTAL_HEADINGS = (
    "backend", "figure", "n", "baseline p50", "candidate p50", "ratio", "interval", "p95", "verdict"
)  # fmt: skip
PHASE_HEADINGS = (
    "backend", "phase", "baseline p50", "candidate p50", "change", "ratio", "interval", "moved"
)  # fmt: skip


def total_rows(judgement: Judgement) -> list[tuple[str, ...]]:
    """A row for each figure, and for the failures of each backend; seconds."""
    rows = [_total_row(c) for c in judgement.totals]
    return rows + [_failure_row(f) for f in judgement.failures]


def phase_rows(judgement: Judgement) -> list[tuple[str, ...]]:
    """A row for each phase of each backend; seconds and milliseconds."""
    rows: list[tuple[str, ...]] = []
    for c in judgement.phases:
        telling = max(c.baseline_p50_s, c.candidate_p50_s) >= _TELLING_S
        rows.append(
            (
                c.backend,
                c.name,
                f"{c.baseline_p50_s:.3f} s",
                f"{c.candidate_p50_s:.3f} s",
                f"{1000 * (c.candidate_p50_s - c.baseline_p50_s):+.0f} ms",
                f"{c.ratio.value:.2f}" if telling else "",
                f"{c.ratio.low:.2f} – {c.ratio.high:.2f}" if telling else "",
                ("slower" if c.ratio.value > 1 else "faster") if c.moved else "",
            )
        )
    return rows


def verdict_line(judgement: Judgement) -> str:
    """The outcome in one line."""
    rules = judgement.rules
    bar = f"limit {100 * rules.minimum_effect:.4g} %, confidence {100 * rules.confidence:.4g} %"
    if not judgement.ok:
        return f"REGRESSION: {len(judgement.regressions)} ({bar})"
    unclear = sum(c.judged and c.verdict == "unclear" for c in judgement.totals)
    doubt = f", {unclear} unclear" if unclear else ""
    return f"no regression seen{doubt} ({bar})"


def figures(judgement: Judgement) -> dict[str, float]:
    """Flat, as every command's."""
    found: dict[str, float] = {"regressions": len(judgement.regressions)}
    for c in judgement.totals:
        for name, value in (
            ("ratio", c.ratio.value), ("ratio_low", c.ratio.low), ("ratio_high", c.ratio.high)
        ):  # fmt: skip
            found[f"{c.backend}_{c.name}_{name}"] = round(value, 4)
        for side, n in (("baseline", len(c.baseline)), ("candidate", len(c.candidate))):
            found[f"{c.backend}_{c.name}_{side}_spawns"] = n
    for f in judgement.failures:
        found[f"{f.backend}_baseline_failed"] = f.baseline
        found[f"{f.backend}_candidate_failed"] = f.candidate
    return found


def as_objects(comparisons: Sequence[Comparison]) -> list[dict[str, object]]:
    """Each comparison for a program."""
    return [
        {
            "backend": c.backend,
            "name": c.name,
            "baseline_p50_s": round(c.baseline_p50_s, 4),
            "candidate_p50_s": round(c.candidate_p50_s, 4),
            "baseline_p95_s": round(c.p95_s[0], 4),
            "candidate_p95_s": round(c.p95_s[1], 4),
            "ratio": round(c.ratio.value, 4),
            "ratio_low": round(c.ratio.low, 4),
            "ratio_high": round(c.ratio.high, 4),
            **(
                {"judged": c.judged, "verdict": c.verdict}
                if c.name in ("ready", "first_cell")
                else {"moved": c.moved}
            ),
        }
        for c in comparisons
    ]


def markdown(judgement: Judgement) -> str:
    """A summary that can be pasted into a merge request."""
    parts = [
        f"### testbed gate: {verdict_line(judgement)}",
        markup.bullets(judgement.regressions),
        markup.table(TOTAL_HEADINGS, total_rows(judgement)),
        markup.bullets(judgement.warnings),
        "<details><summary>Phases</summary>",
        markup.table(PHASE_HEADINGS, phase_rows(judgement)),
        "</details>",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def junit(judgement: Judgement) -> bytes:
    """A test case for each judged figure and for the failures of each backend."""
    cases = [
        (c.backend, c.name, c.words, c.verdict == "slower") for c in judgement.totals if c.judged
    ]
    cases += [(f.backend, "failures", f.words, f.regression) for f in judgement.failures]
    return markup.junit(
        "testbed gate",
        [
            markup.Case(f"gate.{backend}", name, words, failed=bad)
            for backend, name, words, bad in cases
        ],
        judgement.warnings,
    )


def _total_row(c: Comparison) -> tuple[str, ...]:
    return (
        c.backend,
        c.name,
        f"{len(c.baseline)} / {len(c.candidate)}",
        f"{c.baseline_p50_s:.2f} s",
        f"{c.candidate_p50_s:.2f} s",
        f"{c.ratio.value:.2f}",
        f"{c.ratio.low:.2f} – {c.ratio.high:.2f}",
        f"{c.p95_s[0]:.2f} → {c.p95_s[1]:.2f} s",
        c.verdict if c.judged else f"({c.verdict}, not judged)",
    )


def _failure_row(f: Failures) -> tuple[str, ...]:
    return (
        f.backend,
        "failures",
        f"{f.baseline_all} / {f.candidate_all}",
        str(f.baseline),
        str(f.candidate),
        "",
        f"p = {f.chance:.2g}",
        "",
        "more" if f.regression else "same",
    )
