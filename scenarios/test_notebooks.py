"""Real notebooks run in people's own servers and find right what they compute."""

from collections.abc import Callable
from pathlib import Path

import pytest

from testbed import notebooks, smoke
from testbed.hub_client import Spawn
from testbed.logins import Visitor
from testbed.site import BACKENDS, Site


def test_notebook_runs(
    site: Site,
    people: tuple[Visitor, Visitor],
    backend: str,
    notebook: notebooks.Notebook,
    spawn: Callable[..., Spawn],
    run_folder: Path,
) -> None:
    """Each notebook runs to its end on each backend: counts and physics as they must be."""
    # The people take turns, so that nothing works for one person only.
    client = people[BACKENDS.index(backend) % 2].on(backend)  # type: ignore[arg-type] # one of them
    spawn(client, backend)
    done = notebooks.run(
        notebook,
        client,
        copy=run_folder / notebook.path.name,
        parameters=smoke.expected(site, client.user) if notebook.takes_parameters else None,
    )
    assert done.copy.is_file()


@pytest.mark.needs("data")
@pytest.mark.parametrize("name", ["met", "root_urls"])
def test_notebook_with_data_runs(
    alice: Visitor, batch_backend: str, name: str, spawn: Callable[..., Spawn], run_folder: Path
) -> None:
    """In a job of either scheduler, with what the session brings: two million events counted right,
    and every way to read `root://`."""
    client = alice.fetch_data_token(batch_backend)
    spawn(client, batch_backend)
    notebook = notebooks.read(Path(__file__).parent / "notebooks" / "data" / f"{name}.ipynb")
    assert notebooks.run(notebook, client, copy=run_folder / f"{name}.ipynb").copy.is_file()


@pytest.mark.parametrize("source", ["1/0", "raise SystemExit('leaving')"])
def test_failing_cell_is_reported(
    alice: Visitor, spawn: Callable[..., Spawn], site: Site, tmp_path: Path, source: str
) -> None:
    """A cell that raises fails the notebook with its source and traceback, and the copy is kept."""
    import nbformat
    from nbformat import v4

    from testbed.kernels import CellFailed

    path = tmp_path / "failing.ipynb"
    nbformat.write(
        v4.new_notebook(cells=[v4.new_code_cell("a = 1"), v4.new_code_cell(source)]), path
    )
    backend = next(iter(site.backends))
    client = alice.on(backend)
    spawn(client, backend)
    with pytest.raises(CellFailed) as failure:
        notebooks.run(notebooks.read(path), client, copy=tmp_path / "copy.ipynb")
    assert source in str(failure.value)
    assert failure.value.traceback
    assert (tmp_path / "copy.ipynb").is_file()
