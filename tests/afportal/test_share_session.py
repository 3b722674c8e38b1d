"""A session's part of share links: reads nothing but what was meant, overwrites nothing."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import json
import os
import socket
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from afportal.session import arrival
from afportal.session.arrival import About, Copies, check_room, put
from afportal.session.share_errors import HubRefuses, NotArrived, NotShareable
from afportal.session.sharing import HubShares, Sharing
from afportal.session.snapshot import Limits, Snapshot
from tests.afportal.portal_in_process import RunningPortal
from tests.afportal.test_share_in_hub import Session, listed, portal, running  # noqa: F401 - the fixture

LIMITS = Limits(most_bytes=1024 * 1024, most_files=10)


def notebook(source: str = "6 * 7", output: str = "42") -> bytes:
    cell = {
        "cell_type": "code", "id": "a", "metadata": {}, "source": source, "execution_count": 3,
        "outputs": [{"output_type": "stream", "name": "stdout", "text": output}],
    }  # fmt: skip
    kernel = {"name": "python3", "display_name": "Python 3"}
    return json.dumps(
        {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": kernel}, "cells": [cell]}
    ).encode()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with work in it, and what is nobody else's beside it."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.ipynb").write_bytes(notebook("secret"))
    home = tmp_path / "alice"
    work = home / "work"
    (work / "data").mkdir(parents=True)
    (work / "a.ipynb").write_bytes(notebook())
    (work / "data" / "events.csv").write_text("1,2\n")
    (home / ".ssh").mkdir()
    (home / ".ssh" / "id").write_text("secret")
    return home


def taken(
    home: Path, path: str, limits: Limits = LIMITS
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """What is told of a snapshot, and the files in it."""
    snapshot = Snapshot(home, path, limits)
    try:
        with tarfile.open(fileobj=snapshot.file) as tar:
            files = {m.name: tar.extractfile(m).read() for m in tar}  # type: ignore[union-attr]
        assert snapshot.size <= limits.most_bytes
        return snapshot.about.as_dict(), files
    finally:
        snapshot.close()


def test_a_notebook(home: Path) -> None:
    os.utime(home / "work" / "a.ipynb", (5, 1_700_000_000))
    about, files = taken(home, "work/a.ipynb")
    assert about == {
        "kind": "notebook", "name": "a.ipynb", "path": "work/a.ipynb", "files": 1,
        "saved_s": 1_700_000_000, "kernel": "python3", "kernel_title": "Python 3", "left_out": 0,
    }  # fmt: skip
    assert files == {"a.ipynb": notebook()}


def test_a_folder_without_what_is_hidden_or_a_link(home: Path) -> None:
    """A link to a file is not followed, nor one to a folder; it is told how many were left out."""
    work = home / "work"
    (work / "link.ipynb").symlink_to("../../outside/secret.ipynb")
    (work / "way-out").symlink_to("../../outside")
    (work / ".env").write_text("secret")
    (work / ".ipynb_checkpoints").mkdir()
    os.mkfifo(work / "pipe")
    (work / "bell\x07").write_text("x")
    about, files = taken(home, "work")
    assert files == {"a.ipynb": notebook(), "data/events.csv": b"1,2\n"}
    assert (about["kind"], about["files"], about["left_out"]) == ("folder", 2, 5)
    assert about["kernel"] == "python3"


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("", "your whole home cannot be shared"),
        ("..", r"\.\. cannot be shared"),
        ("work/../../outside/secret.ipynb", "cannot be shared"),
        ("work//a.ipynb", "cannot be shared"),
        ("./work", "cannot be shared"),
        (".ssh", r"\.ssh cannot be shared"),
        (".ssh/id", "cannot be shared"),
        ("work/\x00", "cannot be shared"),
        ("work/none.ipynb", "work/none.ipynb cannot be read: No such file"),
        ("work/data/events.csv", "events.csv is no notebook: share the folder"),
        ("link.ipynb", "it is, or lies behind, a link"),
        ("way-out/secret.ipynb", "it is, or lies behind, a link"),
        ("way-out", "it is, or lies behind, a link"),
        ("pipe.ipynb", "pipe.ipynb is no regular file"),
        ("socket.ipynb", "socket.ipynb cannot be read"),
        ("closed.ipynb", "closed.ipynb"),
        ("bytes.ipynb", "bytes.ipynb: it is no notebook: its content is not JSON. Open it"),
        ("old.ipynb", "it is no notebook of the present format"),
        ("list.ipynb", "it is no notebook of the present format"),
        ("deep.ipynb", "it is no notebook: its content is not JSON"),
        ("empty", "empty holds no file that can be shared"),
    ],
)
def test_what_cannot_be_shared(home: Path, path: str, told: str) -> None:
    """The message names what it is about, and what can be done."""
    (home / "link.ipynb").symlink_to("../outside/secret.ipynb")
    (home / "way-out").symlink_to("../outside")
    os.mkfifo(home / "pipe.ipynb")
    listener = socket.socket(socket.AF_UNIX)
    before = Path.cwd()
    os.chdir(home)  # a socket's path may not be long
    listener.bind("socket.ipynb")
    os.chdir(before)
    (home / "closed.ipynb").mkdir(0o700)
    (home / "bytes.ipynb").write_bytes(b"\x7fELF\x00\xff")
    (home / "old.ipynb").write_text('{"nbformat": 3, "worksheets": []}')
    (home / "list.ipynb").write_text("[1, 2]")
    (home / "deep.ipynb").write_text("[" * 100_000)
    (home / "empty").mkdir()
    with contextlib.closing(listener), pytest.raises(NotShareable, match=told):
        taken(home, path)


def test_what_is_too_much(home: Path) -> None:
    """Of bytes, of files, of folders in folders."""
    work = home / "work"
    (work / "data" / "large").write_bytes(b"x" * 2 * 1024 * 1024)
    with pytest.raises(NotShareable, match=r"with data/large it is 2\.0 MiB or more; 1\.0 MiB may"):
        taken(home, "work")
    (work / "data" / "large").unlink()
    with pytest.raises(NotShareable, match="more than 1 files, the most that one link may hold"):
        taken(home, "work", Limits(LIMITS.most_bytes, 1))
    deep = work
    for _ in range(25):
        deep = deep / "d"
    deep.mkdir(parents=True)
    with pytest.raises(NotShareable, match="lies more than 20 folders deep"):
        taken(home, "work")


def test_a_folder_that_becomes_a_link_leads_nowhere(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at it and its opening somebody puts a link in its place."""
    real = os.open

    def swapped(path: Any, flags: int, *args: Any, **more: Any) -> int:
        if path == "data":
            (home / "work" / "data" / "events.csv").unlink()
            (home / "work" / "data").rmdir()
            (home / "work" / "data").symlink_to("../../outside")
        return real(path, flags, *args, **more)

    monkeypatch.setattr(os, "open", swapped)
    with pytest.raises(NotShareable, match="it is, or lies behind, a link"):
        taken(home, "work")


# Arrivals


def packed(files: dict[str, bytes], **odd: Any) -> io.BytesIO:
    """A tar of these files; `odd` sets fields of each entry."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for field, value in odd.items():
                setattr(info, field, value)
            tar.addfile(info, io.BytesIO(content))
    packed.seek(0)
    return packed


def about(**more: Any) -> About:
    return About(**{
        "share": "0" * 16, "owner": "alice", "kind": "notebook", "name": "a.ipynb", "version": 1,
        "size": 1024, "files": 1, "outputs": True, **more,
    })  # fmt: skip


def everything(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_it_overwrites_nothing(tmp_path: Path) -> None:
    """The next name that is free is taken, by notebooks and by folders."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "a.ipynb").write_text("mine")
    (tmp_path / "shared" / "a-2.ipynb").symlink_to("nowhere")
    assert put(tmp_path, about(), packed({"a.ipynb": notebook()})) == "shared/a-3.ipynb"
    folder = about(kind="folder", name="work", files=2)
    files = {"a.ipynb": notebook(), "data/events.csv": b"1,2\n"}
    assert put(tmp_path, folder, packed(files)) == "shared/work"
    (tmp_path / "shared" / "work-2").write_text("mine")
    assert put(tmp_path, folder, packed(files)) == "shared/work-3"
    there = everything(tmp_path / "shared")
    for where in ("work", "work-3"):
        assert {name: there.pop(f"{where}/{name}") for name in files} == files
    assert there == {"a.ipynb": b"mine", "a-3.ipynb": notebook(), "work-2": b"mine"}
    assert (tmp_path / "shared" / "a-2.ipynb").readlink() == Path("nowhere")


def test_a_newer_version_lies_beside_the_older(tmp_path: Path) -> None:
    """By its number; it is known which copy came before, while that is there."""
    copies = Copies(tmp_path / "state" / "copies.json")
    first, second = about(), about(version=2)
    assert copies.before(tmp_path, first) == ""
    copies.add(first, put(tmp_path, first, packed({"a.ipynb": notebook()})))
    assert copies.before(tmp_path, first) == ""
    assert copies.before(tmp_path, second) == "shared/a.ipynb"
    path = put(tmp_path, second, packed({"a.ipynb": notebook("7 * 7")}), tag="v2")
    assert path == "shared/a-v2.ipynb"
    (tmp_path / "shared" / "a.ipynb").unlink()
    assert copies.before(tmp_path, second) == ""
    (tmp_path / "state" / "copies.json").write_text("broken")
    assert copies.before(tmp_path, second) == ""


def test_outputs_are_cleared_where_that_was_chosen(tmp_path: Path) -> None:
    """In a folder too; what is no notebook there is left as it is."""
    path = put(tmp_path, about(outputs=False), packed({"a.ipynb": notebook()}))
    (cell,) = json.loads((tmp_path / path).read_text())["cells"]
    assert (cell["source"], cell["outputs"], cell["execution_count"]) == ("6 * 7", [], None)
    folder = about(kind="folder", name="work", files=2, outputs=False)
    put(tmp_path, folder, packed({"b/a.ipynb": notebook(), "bad.ipynb": b"\xff"}))
    (cell,) = json.loads((tmp_path / "shared/work/b/a.ipynb").read_text())["cells"]
    assert cell["outputs"] == []
    assert (tmp_path / "shared/work/bad.ipynb").read_bytes() == b"\xff"


@pytest.mark.parametrize(
    ("files", "more", "odd"),
    [
        ({"../a.ipynb": b""}, {}, {}),
        ({"/a.ipynb": b""}, {}, {}),
        ({"b/../../a.ipynb": b""}, {"kind": "folder"}, {}),
        ({".bashrc": b""}, {"kind": "folder"}, {}),
        ({"a.ipynb": b""}, {}, {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}),
        ({"a.ipynb": b""}, {}, {"type": tarfile.LNKTYPE, "linkname": "/etc/passwd"}),
        ({"a.ipynb": b""}, {}, {"type": tarfile.FIFOTYPE}),
        ({"b.ipynb": b""}, {}, {}),
        ({"a.ipynb": b"x", "b": b"x"}, {"kind": "folder"}, {}),
        ({"a": b"x"}, {"kind": "folder", "files": 2}, {}),
        ({"a": b"x", "a/b": b"x"}, {"kind": "folder", "files": 2}, {}),
        ({"a.ipynb": b"\x7fELF"}, {}, {}),
    ],
)
def test_what_is_no_snapshot_leaves_nothing(
    tmp_path: Path, files: dict[str, bytes], more: dict[str, Any], odd: dict[str, Any]
) -> None:
    """Whatever a stolen session put there: nothing is written outside, nor half."""
    with pytest.raises(NotArrived):
        put(tmp_path, about(**more), packed(files, **odd))
    assert everything(tmp_path) == {}
    assert [path.name for path in tmp_path.rglob("*")] == ["shared"]
    with pytest.raises(NotArrived):
        put(tmp_path, about(), io.BytesIO(b"no tar"))


@pytest.mark.parametrize("name", ["../a", ".bashrc", "", "a/b", "a\n"])
def test_a_name_that_a_hub_may_not_give(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        about(name=name)


def test_a_full_home_is_told_and_has_nothing_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen beforehand, or when it is written; what was there stays."""
    full = os.statvfs_result((4096, 4096, 100, 0, 0, 1, 1, 1, 0, 255))
    with monkeypatch.context() as patch:
        patch.setattr(os, "statvfs", lambda _: full)
        with pytest.raises(NotArrived, match=r"no room for a\.ipynb: .* needed; 0\.0 MiB are free"):
            check_room(tmp_path, about())
    check_room(tmp_path, about())
    for number, name in ((errno.ENOSPC, "a.ipynb"), (errno.EDQUOT, "b.ipynb")):
        with monkeypatch.context() as patch:

            def no_room(_: int, number: int = number) -> None:
                raise OSError(number, os.strerror(number))

            patch.setattr(os, "fsync", no_room)
            with pytest.raises(NotArrived, match="Nothing was left there: make room") as raised:
                put(tmp_path, about(name=name), packed({name: notebook()}))
            assert raised.value.status == 507
    assert everything(tmp_path) == {}


def test_where_the_folder_cannot_be(tmp_path: Path) -> None:
    """Somebody has a file of that name."""
    (tmp_path / "shared").write_text("mine")
    with pytest.raises(NotArrived, match="cannot be written into the folder shared of your home"):
        put(tmp_path, about(), packed({"a.ipynb": notebook()}))
    assert everything(tmp_path) == {"shared": b"mine"}


def test_what_a_killed_session_left_is_forgotten(tmp_path: Path) -> None:
    left, young = (tmp_path / "shared" / f".arriving-{name}" for name in ("old", "young"))
    left.mkdir(parents=True)
    (left / "half").write_text("x")
    young.mkdir()
    os.utime(left, (0, 0))
    put(tmp_path, about(), packed({"a.ipynb": notebook()}))
    assert not left.exists()
    assert young.exists()


def test_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, _: Path) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM), str(self))

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    assert put(tmp_path, about(), packed({"a.ipynb": notebook()})) == "shared/a.ipynb"
    assert put(tmp_path, about(), packed({"a.ipynb": notebook("2")})) == "shared/a-2.ipynb"
    assert set(everything(tmp_path)) == {"shared/a.ipynb", "shared/a-2.ipynb"}


# From one session to another, by a whole hub


class Of:
    """A session's part, in its person's home."""

    def __init__(self, session: Session, home: Path) -> None:
        self.session = session
        self.home = home
        hub = HubShares(f"{session.portal.hub.url}/hub/api", lambda: session.token)
        self.sharing = Sharing(hub, home, home / ".copies.json")

    def key_to(self, key: str, **more: str) -> str:
        """Open a link in the browser, and return what it leads the session to."""
        goal = self.session.go_on(key, {"server": ""}, where="running", **more)
        return parse_qs(urlsplit(goal.headers["Location"]).query)["key"][0]


@pytest.fixture(scope="module")
def two(portal: RunningPortal) -> Callable[[Path, Path], tuple[Of, Of]]:  # noqa: F811
    owner, other = running(portal, "owner"), running(portal, "other")
    return lambda home, there: (Of(owner, home), Of(other, there))


def test_from_home_to_home(two: Any, home: Path, tmp_path: Path) -> None:
    """A folder as it was, then its newer version beside it, and what differs."""
    there = tmp_path / "bob"
    there.mkdir()
    owner, other = two(home, there)

    async def go() -> None:
        audience = {"kind": "people", "names": ["other"]}
        made = await owner.sharing.share({"path": "work", "audience": audience})
        assert made["audience"] == "other"
        key = parse_qs(urlsplit(made["url"]).query)["key"][0]
        arriving = other.key_to(key, outputs="clear")
        landed = await other.sharing.arrive(arriving)
        assert (landed.path, landed.before) == ("shared/work", "")
        assert await other.sharing.arrive(arriving) == landed, "a page that is reloaded"
        assert json.loads((there / "shared/work/a.ipynb").read_text())["cells"][0]["outputs"] == []
        (home / "work" / "a.ipynb").write_bytes(notebook("7 * 7", "49"))
        (home / "work" / "new.csv").write_text("3\n")
        renewed = await owner.sharing.share({"path": "work"}, made["id"])
        assert renewed["version"] == 2
        landed = await other.sharing.arrive(other.key_to(key))
        assert (landed.path, landed.before) == ("shared/work-v2", "shared/work")
        found = other.sharing.differences(landed.before, landed.path)
        assert {one.path: one.where for one in found} == {"a.ipynb": "both", "new.csv": "remote"}
        # The owner's file is gone: the link goes on.
        (home / "work" / "a.ipynb").unlink()
        landed = await other.sharing.arrive(other.key_to(key))
        assert (there / landed.path / "a.ipynb").read_bytes() == notebook("7 * 7", "49")
        with pytest.raises(HubRefuses, match="no such copy to fetch"):
            await other.sharing.arrive("x" * 32)
        with pytest.raises(NotArrived, match="no such copy to fetch"):
            await other.sharing.arrive("../x")

    asyncio.run(go())


def test_refusals_reach_the_owner(two: Any, home: Path, tmp_path: Path) -> None:
    """The session's own before anything is sent, and the hub's in its words."""
    owner, _ = two(home, tmp_path)

    async def go() -> None:
        before = len(listed(owner.session))
        with pytest.raises(NotShareable, match="which notebook or folder"):
            await owner.sharing.share({})
        with pytest.raises(NotShareable, match="cannot be shared"):
            await owner.sharing.share({"path": "../outside"})
        with pytest.raises(HubRefuses, match="9999 minutes asked; a link is good for at most 2880"):
            await owner.sharing.share({"path": "work/a.ipynb", "lifetime_min": 9999})
        with pytest.raises(HubRefuses, match=r"audience\.kind"):
            await owner.sharing.share({"path": "work/a.ipynb", "audience": {"kind": "nobody"}})
        (home / "work" / "large").write_bytes(b"x" * 2 * 1024 * 1024)
        with pytest.raises(NotShareable, match=r"1\.0 MiB may be sent"):
            await owner.sharing.share({"path": "work"})
        assert len(listed(owner.session)) == before
        away = HubShares("http://127.0.0.1:1/hub/api", lambda: "token")
        with pytest.raises(HubRefuses, match="The hub does not answer"):
            await away.ask("GET", "shares")

    asyncio.run(go())


def test_a_home_that_fills_up_meanwhile(
    two: Any, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page can be opened again: what failed is not remembered as done."""
    there = tmp_path / "bob"
    there.mkdir()
    owner, other = two(home, there)

    def full(*_: Any, **__: Any) -> None:
        raise NotArrived("no room", 507)

    async def go() -> None:
        made = await owner.sharing.share({"path": "work/a.ipynb"})
        key = parse_qs(urlsplit(made["url"]).query)["key"][0]
        arriving = other.key_to(key)
        with monkeypatch.context() as patch:
            patch.setattr(arrival, "check_room", full)
            with pytest.raises(NotArrived, match="no room"):
                await other.sharing.arrive(arriving)
        assert (await other.sharing.arrive(arriving)).path == "shared/a.ipynb"

    asyncio.run(go())
