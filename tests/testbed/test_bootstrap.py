"""The bootstrap runs on a bare interpreter and says what a machine lacks."""

import ast
import os
import sys
from pathlib import Path

import pytest

from testbed import bootstrap
from testbed.errors import TestbedError

PACKAGE = Path(bootstrap.__file__).parent


@pytest.mark.parametrize("module", ["__init__", "bootstrap", "errors"])
def test_only_the_standard_library_is_imported(module: str) -> None:
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            assert name == "testbed.errors" or name.partition(".")[0] in sys.stdlib_module_names


def test_a_missing_venv_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap.importlib.util, "find_spec", lambda _name: None)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(TestbedError) as raised:
        bootstrap.require_venv()
    assert "apt-get install -y --no-install-recommends python3-venv" in raised.value.cure


def test_an_old_python_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "OLDEST_PYTHON", (99, 0))
    with pytest.raises(TestbedError, match=r"Python 99\.0 or newer"):
        bootstrap.require_python()


def test_a_failing_command_shows_its_last_lines() -> None:
    with pytest.raises(TestbedError, match="no such distribution"):
        bootstrap.run([sys.executable, "-c", "print('no such distribution'); raise SystemExit(4)"])


def test_the_environment_depends_on_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("a==1")
    monkeypatch.setattr(bootstrap, "LOCK", lock)
    before = bootstrap.fingerprint()
    lock.write_text("a==2")
    assert bootstrap.fingerprint() != before
