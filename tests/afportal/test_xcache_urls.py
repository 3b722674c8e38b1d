"""URLs are led through the cache, and only those that it can serve."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from afportal.xcache import urls
from afportal.xcache.urls import Cache

MET = "//data/cms/met/part-0.root"


def made(answer: str = "origin:1094\n", host: str = "xcache", origins: str = "") -> Cache:
    return Cache(host, frozenset(origins.split()), lambda _server: answer)


@pytest.fixture
def keep_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """keep_token(text): put a token where the client looks for it, as a session does."""
    file = tmp_path / "token"
    monkeypatch.setenv("BEARER_TOKEN_FILE", str(file))
    monkeypatch.delenv("BEARER_TOKEN", raising=False)

    def keep(text: str) -> None:
        new = tmp_path / "token.new"
        new.touch(0o600)
        new.write_text(text)
        new.replace(file)

    return keep


@pytest.mark.parametrize(
    ("url", "led"),
    [
        (f"root://origin{MET}", f"root://xcache{MET}"),
        (f"root://origin:1094{MET}", f"root://xcache{MET}"),
        (f"roots://Origin{MET}", f"roots://xcache{MET}"),
        (f"root://origin:1095{MET}", f"root://origin:1095{MET}"),
        (f"root://xcache{MET}", f"root://xcache{MET}"),
        (f"root://elsewhere{MET}", f"root://elsewhere{MET}"),
        (f"https://origin{MET}", f"https://origin{MET}"),
        ("/data/cms/met/part-0.root", "/data/cms/met/part-0.root"),
        ("root://", "root://"),
    ],
)
def test_files_of_the_caches_origin_are_read_through_it(url: str, led: str) -> None:
    """The cache says whose files it has; a path of the same name elsewhere is another file."""
    assert made().through(url) == led


def test_the_name_xcache_means_the_facilitys_own() -> None:
    cache = made(host="cache.site.example:2094")
    for name in ("xcache", "xcache:1094"):  # fsspec adds the port
        assert cache.through(f"root://{name}{MET}") == f"root://cache.site.example:2094{MET}"
    assert cache.through(f"root://xcache:1095{MET}") == f"root://xcache:1095{MET}"


def test_named_origins_are_believed_without_asking() -> None:
    cache = Cache(
        "xcache", frozenset({"far", "farther:1095"}), lambda _server: pytest.fail("asked")
    )
    assert cache.through(f"root://farther:1095{MET}") == f"root://xcache{MET}"
    assert cache.through(f"root://far{MET}") == f"root://xcache{MET}"


@pytest.mark.parametrize("answer", ["", "proxy\n"])
def test_a_server_that_is_no_cache_gets_nothing_of_others(answer: str) -> None:
    assert made(answer).through(f"root://origin{MET}") == f"root://origin{MET}"


def test_a_cache_that_does_not_say_is_not_asked_at_every_file() -> None:
    asked: list[str] = []

    def ask(server: str) -> str:
        asked.append(server)
        return ""

    cache = Cache("xcache", frozenset(), ask)
    for _ in range(3):
        cache.through(f"root://origin{MET}")
    assert asked == ["root://xcache"]


def test_folders_are_listed_at_the_origin() -> None:
    """A cache lists no folders."""
    assert made().at_origin("root://xcache") == "root://origin"
    assert made("far:2094").at_origin("root://xcache") == "root://far:2094"
    assert made().at_origin("root://elsewhere") == "root://elsewhere"


@pytest.mark.parametrize("address", ["[::172.21.0.14]:1094", "xcache-1.site.example"])
def test_an_address_that_the_cache_gave_is_the_cache(address: str) -> None:
    """fsspec asks where a file is and opens it there."""
    cache = made()
    cache.remember(address)
    assert cache.through(f"root://{address}{MET}") == f"root://xcache{MET}"


def test_a_renewed_token_gets_a_connection_of_its_own(keep_token: Callable[[str], None]) -> None:
    """The same token the same one; the name of it tells nothing of the token."""
    cache = made()
    seen = []
    for text in ("first.of.them", "first.of.them", "second.of.them"):
        keep_token(text)
        seen.append(cache.pinned(f"root://xcache{MET}"))
    first, again, second = seen
    assert first == again != second
    user = first.removeprefix("root://").partition("@")[0]
    assert first == f"root://{user}@xcache{MET}"
    assert len(user) == 8
    assert user not in "first.of.them"


def test_other_servers_and_named_users_are_left_alone(keep_token: Callable[[str], None]) -> None:
    keep_token("a.token.here")
    for url in (f"root://elsewhere{MET}", f"root://me@xcache{MET}", "/a/file"):
        assert made().pinned(url) == url


def test_without_the_setting_nothing_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XCACHE_HOST", raising=False)
    assert urls.through_cache(f"root://origin{MET}") == f"root://origin{MET}"


def test_the_setting_counts_from_the_moment_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "XCACHE_HOST", "near")
    monkeypatch.setitem(os.environ, "XCACHE_ORIGINS", "origin")
    assert urls.through_cache(f"root://origin{MET}") == f"root://near{MET}"
