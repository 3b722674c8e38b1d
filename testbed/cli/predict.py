"""`testbed bench predict`: a morning of another size, simulated with the costs of a scale run."""

import json
import math
from pathlib import Path
from typing import Annotated, Any

import typer

from testbed.cli.output import Json, answer, table
from testbed.errors import UsageError


def predict(
    scale_json: Annotated[Path, typer.Argument(help="Of a `testbed bench scale`, with 3 steps.")],
    people: Annotated[
        list[int] | None,
        typer.Option(min=1, help="How many come; may be given again (10, 1000, 100000)."),
    ] = None,
    a_cell: Annotated[int, typer.Option(min=1, help="At most so many people a hub.")] = 1000,
    within: Annotated[
        float, typer.Option(min=0, help="Minutes in which they click; 0: all at once.")
    ] = 10,
    seed: Annotated[int, typer.Option(help="Of the simulation's chance.")] = 1,
    as_json: Json = False,
) -> None:
    """Simulate 10, 1,000, 100,000 people with the costs that a run has measured.

    First the run's own last step is simulated by those before it, so that it can be seen how
    far to trust the rest. Nodes and schedulers are taken to be enough for everybody.
    """
    from testbed import scale_model
    from testbed.scale_model import Costs, Morning

    run = _read(scale_json)
    checked = scale_model.check(run)
    costs = Costs.measured(scale_model.whole_steps(run))
    figures: dict[str, float] = {
        "check_p50_ratio": checked.simulated_p50_s / checked.measured_p50_s,
        "check_p95_ratio": checked.simulated_p95_s / checked.measured_p95_s,
    }
    rows = []
    for many in people or [10, 1000, 100_000]:
        cells = math.ceil(many / a_cell)
        found = scale_model.simulate(
            costs, Morning(many, cells=cells, within_s=within * 60), seed=seed
        )
        rows.append(
            (
                str(many), str(cells), f"{found.ready_p50_s:.2f}", f"{found.ready_p95_s:.2f}",
                f"{found.busiest_cores:.2f}", f"{found.calm_cores:.2f}",
                f"{found.hub_mib / 1024:.1f}", f"{found.queries_per_s:.2f}",
            )
        )  # fmt: skip
        figures |= {
            f"people{many}_ready_p50_s": found.ready_p50_s,
            f"people{many}_ready_p95_s": found.ready_p95_s,
            f"people{many}_busiest_cores": found.busiest_cores,
        }
    if not as_json:
        print(
            f"costs of {run['servers_are']} servers\n"
            f"check: the run's step to {checked.servers} servers, ready p50 and p95: measured "
            f"{checked.measured_p50_s:.2f} and {checked.measured_p95_s:.2f} s, simulated "
            f"{checked.simulated_p50_s:.2f} and {checked.simulated_p95_s:.2f} s\n\nsimulated:"
        )
        table(
            ("people", "hubs", "ready p50 s", "p95 s", "a hub's busiest minute, cores",
             "all hubs at rest, cores", "hubs' memory, GiB", "queries/s"),
            rows,
        )  # fmt: skip
    answer(
        as_json,
        figures={name: round(value, 4) for name, value in figures.items()},
        servers_are=run["servers_are"],
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(run, dict) and {"servers_are", "steps", "at_once", "cores"} <= run.keys():
            if (cells := run.get("cells", 1)) != 1:
                raise UsageError(
                    "the model's costs are those of one hub instance",
                    seen=f"{path} is a run on {cells}",
                    cure="a scale run on a hub with instances: 1",
                )
            return run
        seen = "no servers_are, steps, at_once and cores in it"
    except (OSError, ValueError) as error:
        seen = str(error)
    raise UsageError(
        f"{path} is not a scale run's", seen=seen, cure="testbed bench scale; see docs/scaling.md"
    )
