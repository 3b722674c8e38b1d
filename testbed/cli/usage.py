"""`testbed usage`: who used the pools, in which class, for how long."""

import time
from typing import Annotated

import typer

from testbed.cli.output import Json, Project, answer, table


def usage(
    hours: Annotated[
        float, typer.Option(min=0.01, help="Jobs submitted in the last so many.")
    ] = 24,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """Who used the pools, in which class and for how long, by the schedulers' own records."""
    from testbed import usage as records
    from testbed.bed import Bed

    bed = Bed.open(project)
    used = records.jobs(bed, time.time() - hours * 3600)
    shares = records.shares(used, records.class_names(bed.settings.home))
    if not as_json:
        table(
            ("person", "backend", "class", "jobs", "hours", "core hours"),
            [
                (
                    share.owner, share.backend, share.class_name, str(share.jobs),
                    f"{share.wall_s / 3600:.3f}", f"{share.core_s / 3600:.3f}",
                )
                for share in shares
            ],
        )  # fmt: skip
    answer(
        as_json,
        figures={
            "jobs": len(used),
            "people": len({job.owner for job in used}),
            "core_hours": round(sum(share.core_s for share in shares) / 3600, 4),
        },
        shares=[vars(share) for share in shares],
    )
