"""`testbed bench load`: many people, by behaviour and shape, here or at somebody's facility."""

from typing import Annotated

import typer

from testbed.cli import judging
from testbed.cli.output import Json, Project
from testbed.errors import UsageError
from testbed.load_plan import BEHAVIOURS, POLITE_PAUSE_S, POLITE_PEOPLE, POLITE_SECONDS
from testbed.load_shapes import SHAPES
from testbed.progress import say

_OWN_PAUSE_S = 1.0


def load(
    behaviour: Annotated[
        list[str] | None,
        typer.Option(
            help=f"What people do: {', '.join(BEHAVIOURS)}; may be given again (default: script)."
        ),
    ] = None,
    shape: Annotated[str, typer.Option(help=f"How they come: {', '.join(SHAPES)}.")] = "steady",
    people: Annotated[int, typer.Option(min=1, help="How many, each with an own account.")] = 4,
    seconds: Annotated[float, typer.Option(min=1, help="For how long new visits begin.")] = 60,
    backend: Annotated[
        str | None, typer.Option(help="Where to spawn (default: the site's first).")
    ] = None,
    pause: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Seconds between a person's visits (default: 1; at a facility of "
            f"somebody else's {POLITE_PAUSE_S:g}).",
        ),
    ] = None,
    timeout: judging.Timeout = 120,
    seed: Annotated[int, typer.Option(help="For the arrivals of `poisson`.")] = 1,
    site_file: judging.SiteFile = None,
    most_people: Annotated[
        int, typer.Option(min=1, help="Ceiling at a facility of somebody else's.")
    ] = POLITE_PEOPLE,
    most_seconds: Annotated[float, typer.Option(min=1, help="The same for time.")] = POLITE_SECONDS,
    web: Annotated[bool, typer.Option("--web", help="Show Locust's page meanwhile.")] = False,
    web_port: Annotated[int, typer.Option(help="Its port on the loopback.")] = 8089,
    master: Annotated[
        int, typer.Option(min=0, help="Be the master of so many workers, and wait for them.")
    ] = 0,
    worker: Annotated[
        str, typer.Option(help="Be a worker of the master at this host; it has the plan.")
    ] = "",
    bind: Annotated[str, typer.Option(help="Where the master listens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The master's port.")] = 5557,
    out: judging.Out = None,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """People who come, spawn, work and go: every phase of every visit, failures by cause.

    Ends by itself, and stops every server that it started, also when it is interrupted.
    """
    from testbed import bench_load, load_process
    from testbed.bed import Bed
    from testbed.load_plan import LoadPlan

    if master and worker:
        raise UsageError("a process is a master or a worker: name one of --master, --worker")
    bed = Bed.open(project)
    site, file, judged_bed = judging.judged(bed, site_file)
    polite = POLITE_PAUSE_S if judged_bed is None else _OWN_PAUSE_S
    plan = LoadPlan.checked(
        site,
        own=judged_bed is not None,
        most_people=most_people,
        most_seconds=most_seconds,
        behaviours=tuple(dict.fromkeys(behaviour or ["script"])),
        shape=shape,
        backend=backend or next(iter(site.backends)),
        people=1 if worker else people,  # how many come, its master says
        seconds=seconds,
        pause_s=polite if pause is None else pause,
        timeout_s=timeout,
        seed=seed,
    )
    folder = out or bed.report_dir
    with judging.evidence(judged_bed, folder):
        verdict = bench_load.run(
            site,
            file,
            plan,
            environ=bed.settings.environ,
            folder=folder,
            loadtests_folder=bed.settings.home / "loadtests",
            bed=judged_bed,
            part=load_process.Part(workers=master, master=worker, host=bind, port=port),
            page=load_process.Page(web_port) if web else None,
            say=say,
        )
    judging.end(verdict, folder, as_json)
