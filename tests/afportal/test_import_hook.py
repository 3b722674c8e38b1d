"""The hook wraps the client wherever it is imported, and is nothing to other programs."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Stands where the wheel of XRootD is; the scenarios have the real one.
CLIENT_THAT_REFUSES = """
settings = {}
REFUSED = {"ok": False, "code": 400, "errno": 3011, "message": "[ERROR] [3011] no"}
def EnvPutInt_cpp(name, value): settings[name] = value
class File:
    def open(self, url, *rest):
        self.asked = url
        return REFUSED, None
class FileSystem:
    def __init__(self, url): self.url = url
    def stat(self, path, timeout, callback): callback(REFUSED, None, [])
class CopyProcess:
    def add_job(self, source, target): self.jobs = [(source, target)]
"""
LOOK = """
import os, sys
import pyxrootd.client as client
file = client.File()
status, _ = file.open("root://far//data/x")
assert file.asked == "root://near//data/x", file.asked
assert "no file /data/x" in status["message"], status
copies = client.CopyProcess()
copies.add_job("root://far//data/x", "root://far//data/y")
assert copies.jobs == [("root://near//data/x", "root://far//data/y")], copies.jobs
told = []
client.FileSystem("root://far").stat("/data/x", 0, lambda *answer: told.append(answer))
assert "no file /data/x" in told[0][0]["message"], told
file.open("root://far//data/x", 0x0008)
assert file.asked == "root://far//data/x", "a file that is made goes where it was to go"
assert client.settings["ConnectionWindow"] == 10
"""
HOOK = (ROOT / "src/afportal-xcache.pth").read_text()


def run(code: str, path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={
            "PYTHONPATH": f"{path}:{ROOT / 'src'}",
            "XCACHE_HOST": "near",
            "XCACHE_ORIGINS": "far",
        },
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_client_is_wrapped_at_import(tmp_path: Path) -> None:
    """URLs go in led, refusals come out with their reason, at once and by callback."""
    (tmp_path / "pyxrootd").mkdir()
    (tmp_path / "pyxrootd" / "__init__.py").touch()
    (tmp_path / "pyxrootd" / "client.py").write_text(CLIENT_THAT_REFUSES)
    done = run(HOOK + LOOK, tmp_path)
    assert done.returncode == 0, done.stderr


UPROOT = {
    "coalesce.py": """
class CoalesceConfig:
    def __init__(self, max_request_bytes): self.max_request_bytes = max_request_bytes
""",
    "fsspec.py": """
class FSSpecSource:
    def __init__(self, file_path, coalesce_config=None, **options): self.config = coalesce_config
""",
}
LOOK_AT_UPROOT = """
from uproot.source.fsspec import FSSpecSource
assert FSSpecSource("root://far//x", timeout=1).config.max_request_bytes == 1 << 20
assert FSSpecSource("root://far//x", "mine").config == "mine"
assert FSSpecSource("https://far/x").config is None
assert FSSpecSource("/far/x", timeout=1).config is None
"""


def test_uproot_asks_for_less_at_a_time_of_xrootd_only(tmp_path: Path) -> None:
    """Elsewhere, and where somebody chose, its requests stay as they are."""
    (tmp_path / "uproot" / "source").mkdir(parents=True)
    for name in ("__init__.py", "source/__init__.py"):
        (tmp_path / "uproot" / name).touch()
    for name, text in UPROOT.items():
        (tmp_path / "uproot" / "source" / name).write_text(text)
    done = run(HOOK + LOOK_AT_UPROOT, tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_hook_imports_nothing(tmp_path: Path) -> None:
    """It runs at the start of every Python of the environment."""
    code = f"""
import sys
before = set(sys.modules)
{HOOK}
print(*sorted(set(sys.modules) - before))
"""
    done = run(code, tmp_path)
    assert done.stdout.split() == ["__future__", "afportal", "afportal.import_hook"], done.stderr


def test_without_a_client_its_import_fails_as_ever(tmp_path: Path) -> None:
    done = run(HOOK + "import pyxrootd.client", tmp_path)
    assert "ModuleNotFoundError: No module named 'pyxrootd'" in done.stderr


def test_dasks_tls_connections_are_kept_apart() -> None:
    """In whatever process: a client's in a notebook, a worker's, its nanny's."""
    code = (
        f"{HOOK}\nimport ssl, distributed.comm.tcp\nprint(ssl.SSLContext.sslsocket_class.af_apart)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "True"
