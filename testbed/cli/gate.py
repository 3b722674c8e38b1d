"""The command that compares two runs: gate."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from testbed.cli.output import Json, Project, answer, figures_table, table
from testbed.errors import UsageError

if TYPE_CHECKING:
    from testbed.gate import Rules

_RESULTS_HELP = "A results.json, or a run's folder that holds one."


def gate(
    baseline: Annotated[Path | None, typer.Argument(help=_RESULTS_HELP)] = None,
    candidate: Annotated[Path | None, typer.Argument(help=_RESULTS_HELP)] = None,
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
    self_check: Annotated[
        bool,
        typer.Option(
            "--self-check",
            help="Instead: is a planted 20 % caught here, are ten repeats quiet (15 min)?",
        ),
    ] = False,
    rounds: Annotated[
        int, typer.Option(min=8, help="With --self-check: spawns a run, at most.")
    ] = 20,
    out: Annotated[Path | None, typer.Option(help="With --self-check: folder of its runs.")] = None,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """Compare two runs' spawns; ends with 1 on a regression, with 2 if they do not compare."""
    from testbed import gate as judge
    from testbed import gate_words
    from testbed.comparability import Pair

    if self_check == bool(baseline or candidate):
        raise UsageError(
            "two results files are compared, or --self-check is made without any",
            cure="testbed gate BASELINE CANDIDATE, or testbed gate --self-check",
        )
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
    if self_check:
        _check_self(rules, backend, rounds, out, project, as_json)
        return
    if baseline is None or candidate is None:
        raise UsageError("a candidate is wanted too", cure="testbed gate BASELINE CANDIDATE")
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


def _check_self(
    rules: "Rules",
    backend: list[str] | None,
    rounds: int,
    out: Path | None,
    project: str | None,
    as_json: bool,
) -> None:
    from testbed import gate_self_check, gate_words
    from testbed.bed import Bed
    from testbed.progress import say
    from testbed.signals import ended_in_order
    from testbed.site import load_site

    if len(backend or ()) > 1:
        raise UsageError("--self-check is made on one backend", cure="--backend htcondor")
    bed = Bed.open(project)
    site = load_site(bed.settings.site_file)
    folder = out or bed.report_dir
    with ended_in_order():  # a planted delay is taken back
        check = gate_self_check.run(
            bed,
            site,
            environ=bed.settings.environ,
            folder=folder,
            loadtests_folder=bed.settings.home / "loadtests",
            backend=(backend or list(site.backends))[0],
            rounds=rounds,
            rules=rules,
            say=say,
        )
    runs = [("delayed", check.delayed)] + [
        (f"repeat {number}", judged) for number, judged in enumerate(check.repeats, start=1)
    ]
    rows = [
        (name, *row) for name, judged in runs if judged for row in gate_words.total_rows(judged)
    ]
    if not as_json:
        bad = [n for n, row in enumerate(rows) if row[-1] in ("slower", "more")]
        table(("run", *gate_words.TOTAL_HEADINGS), rows, bad=bad)
        figures_table(check.figures())
        for line in check.failures:
            print(f"self-check: {line}")
        print(f"runs: {folder}")
    answer(
        as_json,
        ok=not check.failures,
        figures=check.figures(),
        failures=check.failures,
        folder=str(folder),
    )


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise UsageError(f"cannot write {path}", seen=str(error)) from error
