"""Commands that judge: smoke and the benchmarks."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from testbed.cli import judging
from testbed.cli.output import Json, Project, answer, figures_table
from testbed.progress import say

if TYPE_CHECKING:
    from testbed.bed import Bed
    from testbed.results import Results, Run


def smoke(
    site_file: judging.SiteFile = None,
    backend: judging.Backends = None,
    rounds: Annotated[int, typer.Option(min=1, help="Spawns on each backend.")] = 10,
    timeout: judging.Timeout = 120,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """The proof: log in, spawn on each backend, run the notebooks, show the latencies."""
    from testbed import smoke as prover
    from testbed.bed import Bed

    bed = Bed.open(project)
    site, _, judged_bed = judging.judged(bed, site_file)
    folder = bed.report_dir
    with judging.evidence(judged_bed, folder):
        verdict = prover.run(
            site,
            environ=bed.settings.environ,
            folder=folder,
            notebooks_folder=bed.settings.home / "scenarios" / "notebooks",
            bed=judged_bed,
            backends=backend or (),
            rounds=rounds,
            timeout_s=timeout,
        )
    judging.end(verdict, folder, as_json)


def spawn(
    site_file: judging.SiteFile = None,
    backend: judging.Backends = None,
    users: Annotated[int, typer.Option(min=1, help="How many people at once.")] = 1,
    rounds: Annotated[int, typer.Option(min=1, help="Spawns a person and backend.")] = 10,
    timeout: judging.Timeout = 120,
    against: Annotated[
        Literal["stock"] | None,
        typer.Option(help="In turns with stock batchspawner, stood up for it (12 min)."),
    ] = None,
    default_pool: Annotated[
        bool,
        typer.Option(help="With --against: also a pool with HTCondor's defaults (half the time)."),
    ] = True,
    bursts: Annotated[
        bool, typer.Option(help="With --against: also 20 people at once, every third round.")
    ] = True,
    others_every: Annotated[
        float,
        typer.Option(
            min=0,
            help="With --against: mean seconds between other people's short jobs; 0: none.",
        ),
    ] = 5,
    seed: Annotated[
        int | None, typer.Option(min=0, help="With --against: of the random order (default: new).")
    ] = None,
    out: judging.Out = None,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """How long spawns take under load, every phase of them."""
    from testbed import bench_against, bench_spawn
    from testbed.bed import Bed

    bed = Bed.open(project)
    site, file, judged_bed = judging.judged(bed, site_file)
    folder = out or bed.report_dir
    with judging.evidence(judged_bed, folder):
        if against:
            extent = bench_against.Extent(
                rounds=rounds,
                users=users,
                timeout_s=timeout,
                seed=bench_against.new_seed() if seed is None else seed,
                default_pool=default_pool,
                bursts=bursts,
                others_every_s=others_every,
            )
            verdict = bench_against.run(
                site,
                environ=bed.settings.environ,
                folder=folder,
                backends=backend or list(site.backends),
                bed=judged_bed,
                extent=extent,
                say=say,
            )
            judging.end(verdict, folder, as_json)
            return
        verdict = bench_spawn.run(
            site,
            file,
            environ=bed.settings.environ,
            folder=folder,
            loadtests_folder=bed.settings.home / "loadtests",
            backends=backend or list(site.backends),
            users=users,
            rounds=rounds,
            timeout_s=timeout,
            bed=judged_bed,
            say=say,
        )
    judging.end(verdict, folder, as_json)


def boot(
    queries: Annotated[
        bool,
        typer.Option(
            "--queries/--no-queries", help="Count scheduler queries with idle servers (3 min)."
        ),
    ] = True,
    backend: Annotated[str, typer.Option(help="Whose queries are counted.")] = "htcondor",
    out: Annotated[
        Path | None, typer.Option(help="Where boot.json goes (default: reports/<run>).")
    ] = None,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """How long a boot takes, a second one, a reload, and what an idle testbed costs.

    Measured on a testbed of its own beside yours, with fresh volumes.
    """
    from testbed import bench_boot
    from testbed.bed import Bed
    from testbed.results import Run

    bed = Bed.open(project)
    measured = Run("bench boot", bed.project, {"queries": queries, "backend": backend})
    figures = bench_boot.run(bed, say=say, queries=queries, backend=backend)
    keep(measured, figures, bed, out or bed.report_dir, as_json)


def login(
    site_file: judging.SiteFile = None,
    people: Annotated[int, typer.Option(min=1, help="Log-ins by plain HTTP.")] = 20,
    browser: Annotated[
        int, typer.Option(min=0, help="Log-ins in Chromium, each with an empty profile.")
    ] = 3,
    out: Annotated[
        Path | None, typer.Option(help="Where login.json goes (default: reports/<run>).")
    ] = None,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """How long a log-in takes, by plain HTTP and in a browser, and what the proxy adds."""
    from testbed import bench_login
    from testbed.bed import Bed
    from testbed.results import Run

    bed = Bed.open(project)
    site, _, judged_bed = judging.judged(bed, site_file)
    folder = out or bed.report_dir
    measured = Run("bench login", site.name, {"people": people, "browser": browser})
    with judging.evidence(judged_bed, folder):
        figures = bench_login.run(
            site,
            environ=bed.settings.environ,
            folder=folder,
            bed=judged_bed,
            people=people,
            browser_rounds=browser,
            say=say,
        )
    keep(measured, figures, judged_bed, folder, as_json)


def form(
    rounds: Annotated[
        int, typer.Option(min=0, help="Pages with 200 accounts and 50 partitions.")
    ] = 100,
    cancels: Annotated[
        int, typer.Option(min=0, help="Servers cancelled while they wait, at each scheduler.")
    ] = 10,
    states: Annotated[
        int,
        typer.Option(min=0, help="States of both pools to try forecasts in; 2 min each."),
    ] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Of the states.")] = 1,
    warnings: Annotated[
        int,
        typer.Option(
            min=0, help="Servers watched until their time is warned of, at each scheduler."
        ),
    ] = 3,
    out: Annotated[
        Path | None, typer.Option(help="Where form.json goes (default: reports/<run>).")
    ] = None,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """What the form costs its hub, how often it foretells right, when people are warned.

    Gives Slurm partitions and accounts, and fills both pools with people's jobs; all of that is
    gone at the end.
    """
    from testbed import bench_form
    from testbed.bed import Bed
    from testbed.logins import Logins
    from testbed.results import Run

    bed = Bed.open(project)
    site, _, _ = judging.judged(bed, None)
    folder = out or bed.report_dir
    measured = Run(
        "bench form",
        site.name,
        {
            "rounds": rounds,
            "cancels": cancels,
            "states": states,
            "seed": seed,
            "warnings": warnings,
        },
    )
    with judging.evidence(bed, folder), Logins(site, bed.settings.environ) as logins:
        figures = bench_form.run(
            site,
            logins,
            bed=bed,
            rounds=rounds,
            cancels=cancels,
            states=states,
            seed=seed,
            warnings=warnings,
            say=say,
        )
    keep(measured, figures, bed, folder, as_json)


def data(
    size: Annotated[int, typer.Option(min=1, help="Of the file that is copied, in MiB.")] = 1024,
    rounds: Annotated[int, typer.Option(min=1, help="Copies of each kind; the best counts.")] = 3,
    out: Annotated[
        Path | None, typer.Option(help="Where results.json goes (default: reports/<run>).")
    ] = None,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """How fast data come through the XCache, against the origin and the network's ceiling.

    At the facility's own cache as it is, and at a second one that checks and encrypts less.
    """
    from testbed import bench_data
    from testbed.bed import Bed

    bed = Bed.open(project)
    site, _, _ = judging.judged(bed, None)
    folder = out or bed.report_dir
    results = bench_data.run(
        bed, site, environ=bed.settings.environ, folder=folder, size_mib=size, rounds=rounds,
        say=say,
    )  # fmt: skip
    _show(results, folder, as_json)


def keep(
    measured: "Run",
    figures: "dict[str, float]",
    bed: "Bed | None",
    folder: Path,
    as_json: bool,
) -> None:
    """Write figures into a run's folder, as `results.json` and as `boot.json` or `login.json`."""
    from testbed import settings

    versions = settings.versions(bed.settings) if bed else None
    results = measured.results((), figures, versions)
    results.write(folder)
    short = {"when": measured.begin.isoformat(timespec="seconds"), "figures": figures}
    name = measured.command.removeprefix("bench ")
    (folder / f"{name}.json").write_text(json.dumps(short, indent=1))
    _show(results, folder, as_json)


def _show(results: "Results", folder: Path, as_json: bool) -> None:
    """Show the figures of a run without spawns, as a table and as a page."""
    from testbed import report

    page = report.write(results, folder)
    if not as_json:
        figures_table(results.figures)
        print(f"report: {page}")
    answer(as_json, figures=results.figures, folder=str(folder), report=str(page))
