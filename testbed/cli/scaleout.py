"""`testbed bench scaleout`: what it costs to go from one notebook to the whole pool."""

from pathlib import Path
from typing import Annotated, Any

import typer

from testbed.cli import judge, judging
from testbed.cli.output import Json, Project
from testbed.progress import say


def scaleout(
    calls: Annotated[int, typer.Option(min=1, help="Of a map, one job each.")] = 1000,
    rounds: Annotated[int, typer.Option(min=0, help="Turns of map and plain submit.")] = 2,
    workers: Annotated[int, typer.Option(min=0, help="First Dask workers, at each scheduler.")] = 5,
    met: Annotated[
        int, typer.Option(min=0, help="Turns of the MET analysis on batch and local workers.")
    ] = 12,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the random order.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where scaleout.json goes (default: reports/<run>).")
    ] = None,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """What a map of tiny calls costs beside one plain condor_submit, and what Dask gives.

    The map is measured from a kernel in a person's server on the login node, Dask from one on
    HTCondor; what is compared comes in turns.
    """
    from testbed import bench_against, bench_dask, bench_scaleout
    from testbed.bed import Bed
    from testbed.dask_sessions import DaskSession
    from testbed.logins import Logins, Visitor
    from testbed.results import Run

    bed = Bed.open(project)
    site, _, _ = judging.judged(bed, None)
    folder = out or bed.report_dir
    seed = bench_against.new_seed() if seed is None else seed
    asked: dict[str, Any] = {
        "calls": calls,
        "rounds": rounds,
        "workers": workers,
        "met": met,
        "seed": seed,
    }
    measured = Run("bench scaleout", site.name, asked)
    figures: dict[str, float] = {}
    with judging.evidence(bed, folder), Logins(site, bed.settings.environ) as logins:
        person = Visitor(site.people("person")[0].name, logins)
        if rounds:
            client = person.on("local")
            client.spawn({"backend": "local", **site.backend("local").options})
            try:
                figures |= bench_scaleout.run(
                    client, calls=calls, rounds=rounds, seed=seed, say=say
                )
            finally:
                client.stop()
        if workers or met:
            with DaskSession.begin(site, person, "htcondor") as session:
                if workers:
                    figures |= bench_dask.first_workers(session, workers, say)
                if met:
                    figures |= bench_dask.met_batch_vs_local(
                        session, bed.settings.home, "htcondor", met, say
                    )
    judge.keep(measured, figures, bed, folder, as_json)
