"""The command that compares two runs: gate."""

import math
from pathlib import Path
from typing import Annotated

import typer

from testbed.cli.output import Json, answer, table
from testbed.errors import UsageError

_RESULTS_HELP = "A results.json, or a run's folder that holds one."


def gate(
    baseline: Annotated[Path, typer.Argument(help=_RESULTS_HELP)],
    candidate: Annotated[Path, typer.Argument(help=_RESULTS_HELP)],
    backend: Annotated[
        list[str] | None,
        typer.Option("--backend", help="Only this backend; may be given again (default: all)."),
    ] = None,
    figure: Annotated[
        list[str] | None,
        typer.Option(
            "--figure", help="Judge this: ready, first_cell; may be given again (default: ready)."
        ),
    ] = None,
    minimum_effect: Annotated[
        float, typer.Option(min=0.1, max=1000, help="Least slow-down that matters, in percent.")
    ] = 10,
    confidence: Annotated[
        float, typer.Option(min=50, max=99.9, help="Of all judged figures together, in percent.")
    ] = 95,
    markdown: Annotated[
        Path | None, typer.Option(help="Write a summary for a merge request here.")
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="Write a JUnit report here.")] = None,
    as_json: Json = False,
) -> None:
    """Compare two runs' spawns; ends with 1 on a regression, with 2 if they do not compare."""
    from testbed import gate as judge
    from testbed import gate_words
    from testbed.comparability import Pair

    figures = tuple(dict.fromkeys(figure or ("ready",)))
    unknown = [name for name in figures if name not in judge.JUDGED_FIGURES]
    if unknown:
        raise UsageError(
            f"figure {', '.join(unknown)} cannot be judged",
            cure=f"one of {', '.join(judge.JUDGED_FIGURES)}",
        )
    if not math.isfinite(minimum_effect + confidence):
        raise UsageError("--minimum-effect and --confidence are percentages, such as 10 and 95")
    rules = judge.Rules(minimum_effect / 100, confidence / 100, figures)
    pair = Pair(judge.read(baseline), judge.read(candidate), tuple(dict.fromkeys(backend or ())))
    found = judge.judge(pair, rules)
    if markdown:
        _write(markdown, gate_words.markdown(found).encode())
    if junit:
        _write(junit, gate_words.junit(found))
    if not as_json:
        rows = gate_words.total_rows(found)
        table(
            gate_words.TOTAL_HEADINGS,
            rows,
            bad=[n for n, row in enumerate(rows) if row[-1] in ("slower", "more")],
        )
        rows = gate_words.phase_rows(found)
        table(
            gate_words.PHASE_HEADINGS,
            rows,
            bad=[n for n, row in enumerate(rows) if row[-1] == "slower"],
        )
        for line in found.warnings:
            print(f"note: {line}")
        for line in found.regressions:
            print(f"regression: {line}")
        print(gate_words.verdict_line(found))
    answer(
        as_json,
        ok=found.ok,
        figures=gate_words.figures(found),
        regressions=found.regressions,
        warnings=list(found.warnings),
        totals=gate_words.as_objects(found.totals),
        phases=gate_words.as_objects(found.phases),
    )


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise UsageError(f"cannot write {path}", seen=str(error)) from error
