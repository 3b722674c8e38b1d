"""The command that shows a run: report."""

from pathlib import Path
from typing import Annotated

import typer

from testbed.cli.output import Json, Project, answer


def report(
    run: Annotated[
        Path | None,
        typer.Argument(help="A results.json or its folder (default: reports/latest)."),
    ] = None,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """One HTML page of a run, written beside its results.json."""
    from testbed import report as page
    from testbed import settings
    from testbed.results import Results

    file = page.find(run or settings.load(project).reports_dir / "latest")
    results = Results.read(file)
    written = page.write(results, file.parent)
    if not as_json:
        print(written)
    answer(as_json, figures=results.figures, report=str(written))
