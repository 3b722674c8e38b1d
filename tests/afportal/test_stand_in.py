"""A stand-in for a server: the hub's own certificate and nobody else's, and no Jupyter in it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from afportal import catalogue, tls
from afportal.session import stand_in
from tests.afportal import authorities

ADDRESS = "127.0.0.1"
REPOSITORY = Path(__file__).parents[2]
CONFIG, SOURCE = REPOSITORY / "compose/hub/config", str(REPOSITORY / "src")


@pytest.fixture
def cell(tmp_path: Path) -> tls.CellTls:
    """A cell whose files for a server at `ADDRESS` lie in `tmp_path`."""
    inside = authorities.authority("inside")
    inside.write(tmp_path / "inside", "ca")
    authorities.cell(tmp_path / "cell", "htc-1", inside)
    made = tls.CellTls(tmp_path / "inside/ca.pem", tmp_path / "cell")
    (tmp_path / "tls").mkdir()
    for name, content in made.server_files(ADDRESS, 3600).items():
        (tmp_path / name).write_text(content)
    return made


async def ask(tls_folder: Path, context: ssl.SSLContext) -> tuple[bytes, bytes]:
    """Head and body of what a stand-in answers."""
    server = await asyncio.start_server(
        stand_in.answer, ADDRESS, 0, ssl=stand_in.listening(tls_folder)
    )
    async with server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection(ADDRESS, port, ssl=context)
        writer.write(b"GET /hub/user/alice/ HTTP/1.1\r\nHost: here\r\n\r\n")
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        return head, body


def test_the_hub_is_answered_and_told_what_it_is(cell: tls.CellTls, tmp_path: Path) -> None:
    """The cell's own certificate gets an answer, which says that this is a stand-in."""
    head, body = asyncio.run(ask(tmp_path / "tls", cell.asking()))
    assert head.startswith(b"HTTP/1.1 200 ")
    assert json.loads(body) == {"stand_in": True}


@pytest.mark.usefixtures("cell")
def test_nobody_else_is_answered(tmp_path: Path) -> None:
    """Who believes the server and has no certificate of the cell's gets no byte of an answer."""
    nobody = tls.asking(tmp_path / "cell/believed.pem")
    answer = b"", b""
    with contextlib.suppress(ssl.SSLError, ConnectionError):  # or an end without a word
        answer = asyncio.run(ask(tmp_path / "tls", nobody))
    assert answer == (b"", b"")


def test_it_holds_no_jupyter() -> None:
    """What makes it light: neither Jupyter's modules nor tornado come with it."""
    heavy = ("jupyter", "jupyter_server", "jupyterhub", "tornado", "traitlets")
    code = (
        f"import sys; sys.path.insert(0, {SOURCE!r})\n"
        "import afportal.session.stand_in\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_a_facility_offers_none_unless_it_is_measured() -> None:
    """No environment of the facility's catalogue is a stand-in; the benchmark's own has one, and
    says what it is in every title of it."""
    assert not [e for e in catalogue.load(CONFIG / "catalogue.yaml").environments if e.stand_in]
    measured = catalogue.load(CONFIG / "stand-ins.yaml")
    named = [e for e in measured.environments if e.stand_in]
    named += [c for c in measured.classes if c.name == "stand-in"]
    assert len(named) == 2
    assert all("stand-in" in thing.title.lower() for thing in named)
