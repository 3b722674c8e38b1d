"""`testbed autoscale`: more execution points while jobs wait, fewer when nobody uses them."""

import threading
from typing import Annotated

import typer

from testbed.cli.output import Json, Project, answer, figures_table
from testbed.progress import say


def autoscale(
    ceiling: Annotated[
        int, typer.Option(min=1, max=16, help="Most execution points beside the reserved ones.")
    ] = 4,
    idle: Annotated[
        float, typer.Option(min=1, help="Seconds without a job after which one goes.")
    ] = 60,
    every: Annotated[float, typer.Option(min=0.5, help="Seconds between two looks.")] = 2,
    for_s: Annotated[
        float | None, typer.Option("--for", min=0, help="So many seconds (default: until Ctrl-C).")
    ] = None,
    grace: Annotated[
        float,
        typer.Option(min=0, help="At the end, longest wait for jobs on what goes, in seconds."),
    ] = 300,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """Add execution points (condor-ep-burst) while batch jobs find no slot; remove idle ones.

    Runs here, not in a container. At the end all that it added is drained and removed; jobs run to
    their end. One whose jobs outlast --grace stays, takes no more, and goes with the next run of
    this command. A second Ctrl-C waits for no job.
    """
    from testbed import autoscale as scaling
    from testbed import signals
    from testbed.autoscale_plan import Rules
    from testbed.bed import Bed

    bed = Bed.open(project)
    for service in ("condor-cm", "condor-ap", "condor-ep"):
        bed.container(service)
    scaler = scaling.Autoscaler(
        scaling.BurstPool(bed), Rules(ceiling=ceiling, idle_s=idle), every_s=every, say=say
    )
    ended, hurry = threading.Event(), threading.Event()

    def end(*_: object) -> None:
        (hurry if ended.is_set() else ended).set()

    until = "until Ctrl-C" if for_s is None else f"for {for_s:g} s"
    say(f"up to {ceiling} execution points more, by what waits in the queue; {until}")
    with signals.taken(end):
        scaler.run(ended, for_s)
        ended.set()
        say("letting go of what was added")
        scaler.let_go(hurry, grace)
    outcome = scaler.outcome
    if outcome.left:
        say(
            f"{', '.join(outcome.left)}: jobs run on there; no more begin. When they are over: "
            f"{bed.command('autoscale', '--for', '0')}"
        )
    if not as_json:
        figures_table(outcome.figures())
    answer(as_json, ok=not outcome.left, figures=outcome.figures(), left=outcome.left)
