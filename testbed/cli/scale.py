"""`testbed bench scale`: how many running servers a hub holds, and what each costs it."""

from typing import Annotated, Literal

import typer

from testbed.cli import judging
from testbed.cli.output import Json, Project
from testbed.progress import say


def scale(
    servers: Annotated[int, typer.Option(min=1, help="Running at once in the last step.")] = 100,
    minutes: Annotated[
        float, typer.Option(min=0.05, help="How long the last step is watched.")
    ] = 10,
    kind: Annotated[
        Literal["stand-in", "jupyterlab"],
        typer.Option(help="Light stand-ins, real jobs without Jupyter; or what people have."),
    ] = "stand-in",
    against: Annotated[
        Literal["stock"] | None,
        typer.Option(
            help="So many JupyterLabs on stock batchspawner too (130 MiB each), watched beside it."
        ),
    ] = None,
    backend: judging.Backends = None,
    at_once: Annotated[int, typer.Option(min=1, help="Spawns under way at a time.")] = 8,
    window: Annotated[
        float, typer.Option(min=1, help="Seconds that each earlier step is watched.")
    ] = 60,
    timeout: judging.Timeout = 300,
    out: judging.Out = None,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """1, 10, 30, 100, 300 … running servers on a hub: what each costs, what breaks first.

    On all instances of the hub that offers the backends, as the front door spreads people; figures
    are theirs together.

    Makes room for them (nodes whose slots are declared, not real), restarts the hub twice, and
    ends every server that it started. Stops where less than 1 GiB of memory is left.
    """
    from testbed import bench_scale, scale_steps
    from testbed.bed import Bed

    bed = Bed.open(project)
    site, _, judged_bed = judging.judged(bed, None)
    folder = out or bed.report_dir
    extent = scale_steps.Extent(
        servers=servers,
        at_once=at_once,
        window_s=window,
        last_window_s=minutes * 60,
        timeout_s=timeout,
        stand_ins=kind == "stand-in",
        against_stock=against is not None,
    )
    with judging.evidence(judged_bed, folder):
        verdict = bench_scale.run(
            site,
            environ=bed.settings.environ,
            folder=folder,
            backends=backend or [name for name in site.backends if name != "local"],
            bed=judged_bed,
            extent=extent,
            say=say,
        )
    judging.end(verdict, folder, as_json)
