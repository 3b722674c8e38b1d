"""What the commands that judge share: options, whom they judge, evidence, how they end."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from testbed.cli.output import answer

if TYPE_CHECKING:
    from testbed.bed import Bed
    from testbed.site import Site
    from testbed.smoke import Verdict

SiteFile = Annotated[
    Path | None,
    typer.Option("--site", help="Site file of what is judged (default: this testbed's own)."),
]
Backends = Annotated[
    list[str] | None,
    typer.Option("--backend", help="Only this backend; may be given again (default: all)."),
]
Timeout = Annotated[
    float, typer.Option("--timeout", min=1, help="Longest wait for each step, in seconds.")
]
Out = Annotated[Path | None, typer.Option(help="Where the results go (default: reports/<run>).")]


def judged(bed: "Bed", site_file: Path | None) -> "tuple[Site, Path, Bed | None]":
    """The site to judge and its file; with the testbed only where it is the testbed's own."""
    from testbed.site import load_site

    own = bed.settings.site_file
    file = site_file or own
    site = load_site(file)
    return site, file, bed if file.resolve() == own.resolve() else None


@contextlib.contextmanager
def evidence(bed: "Bed | None", folder: Path) -> Iterator[None]:
    """Keep the services' logs and the queues' state, however the judgement ends.

    A signal ends it in order: what it stood up or planted is taken back.
    """
    from testbed import evidence as kept
    from testbed.signals import ended_in_order

    with ended_in_order():
        try:
            yield
        finally:
            if bed is not None:
                kept.collect(bed, folder)


def end(verdict: "Verdict", folder: Path, as_json: bool) -> None:
    """Show a verdict and end with its exit code."""
    from rich.console import Console

    from testbed import report
    from testbed.smoke import show

    page = report.write(verdict.results, folder)
    if not as_json:
        show(verdict, Console(width=160))
        print(f"report: {page}")
    answer(
        as_json,
        ok=verdict.ok,
        figures=verdict.figures,
        failures=verdict.failures,
        folder=str(folder),
        report=str(page),
    )
