"""`testbed report`: one HTML page of a run, made from its results.json; Markdown and JUnit too."""

from pathlib import Path

from testbed.errors import UsageError
from testbed.report import summary
from testbed.report.page import render
from testbed.results import Results

NAME = "report.html"


def find(run: Path) -> Path:
    """The results file of a run: the file itself, or that of its folder.

    Raises:
        UsageError: There is none; with the newest run beside it that has one.
    """
    if not run.is_dir():
        return run
    if (run / "results.json").is_file():
        return run / "results.json"
    others = sorted(run.resolve().parent.glob("*/results.json"), key=lambda f: f.stat().st_mtime)
    raise UsageError(
        f"{run} has no results.json",
        seen="no benchmark wrote its results there",
        cure=f"testbed report {others[-1].parent}" if others else "testbed bench spawn",
    )


def write(results: Results, folder: Path) -> Path:
    """Write `report.html`, `summary.md` and `junit.xml` into a run's folder, each whole or not.

    Returns:
        Where the page is.
    """
    made = {
        NAME: render(results).encode(),
        "summary.md": summary.markdown(results).encode(),
        "junit.xml": summary.junit(results),
    }
    for name, content in made.items():
        part = folder / f"{name}.part"
        part.write_bytes(content)
        part.replace(folder / name)
    return folder / NAME
