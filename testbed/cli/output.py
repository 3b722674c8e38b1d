"""What a command answers: words for a person, or with --json one object for a program."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer

from testbed.errors import ExplainedError

Json = Annotated[bool, typer.Option("--json", help="Answer with one JSON object on stdout.")]
Project = Annotated[
    str | None,
    typer.Option(
        help="Which testbed, where several run side by side (default AF_PROJECT, af-testbed)."
    ),
]
Figures = Mapping[str, float | int | None]


def answer(as_json: bool, *, ok: bool = True, figures: Figures | None = None, **more: Any) -> None:
    """Print the object if it was asked for, and end with 1 if the judgement is bad."""
    if as_json:
        print(json.dumps({"ok": ok, "figures": dict(figures or {}), **more}, default=str))
    if not ok:
        raise typer.Exit(1)


def failed(error: ExplainedError, argv: Sequence[str]) -> None:
    """Say what went wrong: on stderr for a person, and as the object if that was asked for."""
    print(f"testbed: {error}", file=sys.stderr)
    if _json_asked(argv):
        print(
            json.dumps(
                {"ok": False, "figures": {}, "exit_code": error.exit_code, "error": error.what,
                 "seen": error.seen, "cure": error.cure}
            )
        )  # fmt: skip


def misused(argv: Sequence[str]) -> None:
    """The object for a command line that could not be read; the words are out already."""
    if _json_asked(argv):
        print(
            json.dumps({"ok": False, "figures": {}, "exit_code": 2, "error": "usage; see stderr"})
        )


def table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], *, bad: Iterable[int] = ()
) -> None:
    """Print a table on stdout; rows numbered in `bad` stand out where colours are shown."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    marked = set(bad)
    drawn = Table(*headings, box=box.SIMPLE, pad_edge=False)
    for number, row in enumerate(rows):
        drawn.add_row(*map(Text, row), style="red" if number in marked else None)
    # Into a file or a pipe nothing is cut: the reader has no terminal to widen.
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(drawn)


def figures_table(figures: Figures) -> None:
    table(
        ("figure", "value"),
        [(name, "-" if value is None else f"{value:.4g}") for name, value in figures.items()],
    )


def _json_asked(argv: Sequence[str]) -> bool:
    own = argv[: argv.index("--")] if "--" in argv else argv
    return "--json" in own
