"""`testbed bench share`: how soon a shared notebook is open."""

from pathlib import Path
from typing import Annotated

import typer

from testbed.cli import judge, judging
from testbed.cli.output import Json, Project
from testbed.progress import say


def share(
    running: Annotated[int, typer.Option(min=0, help="Opened in a server that runs.")] = 10,
    new: Annotated[int, typer.Option(min=0, help="Opened in a new server.")] = 5,
    out: Annotated[
        Path | None, typer.Option(help="Where share.json goes (default: reports/<run>).")
    ] = None,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """From the click on a share link's page to the open notebook, in Chromium."""
    from testbed import bench_share
    from testbed.bed import Bed
    from testbed.logins import Logins
    from testbed.results import Run

    bed = Bed.open(project)
    site, _, _ = judging.judged(bed, None)
    folder = out or bed.report_dir
    measured = Run("bench share", site.name, {"running": running, "new": new})
    with judging.evidence(bed, folder), Logins(site, bed.settings.environ) as logins:
        figures = bench_share.run(
            site,
            logins,
            environ=bed.settings.environ,
            folder=folder,
            running=running,
            new=new,
            say=say,
        )
    judge.keep(measured, figures, bed, folder, as_json)
