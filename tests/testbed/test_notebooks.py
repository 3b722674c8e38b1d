"""A notebook's own word on what it needs is read, and checked."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat import v4

from testbed import notebooks, smoke
from testbed.errors import UsageError
from testbed.notebooks import Notebook

SHIPPED = Path(__file__).parents[2] / "scenarios" / "notebooks"


def written(folder: Path, metadata: dict[str, Any], *sources: str, tag: str | None = None) -> Path:
    cells = [v4.new_code_cell(source) for source in sources]
    if tag:
        cells[0].metadata["tags"] = [tag]
    path = folder / "a.ipynb"
    nbformat.write(v4.new_notebook(cells=cells, metadata=metadata), path)
    return path


def test_metadata_are_read(tmp_path: Path) -> None:
    path = written(
        tmp_path, {"testbed": {"needs": ["slurm"], "timeout_s": 5}}, "x = 1", tag="parameters"
    )
    assert notebooks.read(path) == Notebook(path, ("slurm",), 5.0, (), takes_parameters=True)


def test_a_notebook_without_word_needs_nothing(tmp_path: Path) -> None:
    notebook = notebooks.read(written(tmp_path, {}, "1"))
    assert (notebook.needs, notebook.timeout_s, notebook.takes_parameters) == ((), 120.0, False)


def test_all_wrong_metadata_are_named(tmp_path: Path) -> None:
    path = written(tmp_path, {"testbed": {"timeout_s": -1, "need": []}}, "1")
    with pytest.raises(UsageError) as raised:
        notebooks.read(path)
    assert "timeout_s" in str(raised.value)
    assert "need" in str(raised.value)


def test_what_is_no_notebook_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.ipynb").write_text("{")
    with pytest.raises(UsageError, match=r"a\.ipynb"):
        notebooks.find(tmp_path)


def test_parameters_follow_their_cell(tmp_path: Path) -> None:
    path = written(tmp_path, {}, "x = 1", "x", tag="parameters")
    document = nbformat.read(path, as_version=4)
    notebooks.set_parameters(document, {"x": 2, "who": "it's"}, path)
    assert [cell.source for cell in document.cells] == ["x = 1", 'x = 2\nwho = "it\'s"', "x"]


def test_parameters_need_a_place(tmp_path: Path) -> None:
    path = written(tmp_path, {}, "x = 1")
    with pytest.raises(UsageError, match="takes no parameters"):
        notebooks.set_parameters(nbformat.read(path, as_version=4), {"x": 2}, path)


@pytest.mark.parametrize("notebook", notebooks.find(SHIPPED), ids=lambda notebook: notebook.name)
def test_shipped_notebooks_are_stripped_and_name_their_files(notebook: Notebook) -> None:
    """Outputs are stripped, files are there, and some cell asserts."""
    document = nbformat.read(notebook.path, as_version=4)
    code = [cell for cell in document.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert all((notebook.path.parent / name).is_file() for name in notebook.files)
    assert any("assert " in cell.source for cell in code)
    assert notebook.timeout_s <= 300


def test_each_backend_runs_its_own_notebooks() -> None:
    class Everything:
        def meets(self, need: str) -> bool:
            return bool(need)

    book = notebooks.find(SHIPPED)
    names = {
        backend: [n.name for n in smoke.for_backend(book, backend, Everything())]
        for backend in ("htcondor", "slurm", "local")
    }
    assert names == {
        "htcondor": ["gridscan", "histogram", "whoami"],
        "slurm": ["histogram", "slurm_job", "whoami"],
        "local": ["histogram", "whoami"],
    }
