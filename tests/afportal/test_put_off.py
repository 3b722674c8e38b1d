"""A package that is put off is the real one for whoever wants something of it."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from afportal.session import launcher

NAME = "af_toy_package"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package that counts how often its parts are run."""
    folder = tmp_path / NAME
    folder.mkdir()
    count = "import builtins\nbuiltins.af_toy_runs.append(__name__)\n"
    (folder / "__init__.py").write_text(f"{count}from .errors import Wrong\nvalue = 1\n")
    (folder / "errors.py").write_text(f"{count}class Wrong(Exception): pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("builtins.af_toy_runs", [], raising=False)
    launcher._put_off(NAME, {})
    yield NAME
    for name in [n for n in sys.modules if n.partition(".")[0] == NAME]:
        del sys.modules[name]


def runs() -> list[str]:
    import builtins

    found: list[str] = builtins.af_toy_runs  # type: ignore[attr-defined]
    return found


def test_an_import_alone_runs_nothing(package: str) -> None:
    module = importlib.import_module(package)
    assert importlib.util.find_spec(package) is not None
    assert runs() == []
    assert module.value == 1
    assert runs() == [package, f"{package}.errors"]
    assert sys.modules[package].value == 1


def test_a_part_that_comes_first_runs_once(package: str) -> None:
    """Who catches the package's error catches the one that its part raises."""
    errors = importlib.import_module(f"{package}.errors")
    module = importlib.import_module(package)
    assert module.Wrong is errors.Wrong
    assert sys.modules[package].errors is errors
    assert runs() == [f"{package}.errors", package]


def test_one_that_is_not_there_is_missed_at_once() -> None:
    launcher._put_off("af_no_such_package", {})
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("af_no_such_package")


def test_what_is_known_is_given_without_it() -> None:
    name = f"{NAME}.paths"
    launcher._put_off(name, {"where": lambda: "here"})
    try:
        namespace: dict[str, object] = {}
        exec(f"from {name} import where\nfound = where()", namespace)  # noqa: S102 - as others import it
        assert namespace["found"] == "here"
    finally:
        del sys.modules[name]
