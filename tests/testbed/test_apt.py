"""The engine's package source comes from the machine's own, whatever form that has."""

from pathlib import Path

import pytest

from testbed import apt
from testbed.errors import TestbedError

DEB822 = """\
# a comment
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main

Enabled: no
Types: deb
URIs: http://other.example/debian
Suites: bookworm
Components: main
"""

INLINE_KEY = """\
Types: deb
URIs: https://mirror.example/debian
Suites: bookworm
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINBFit2ioBEADhWpZ8
 -----END PGP PUBLIC KEY BLOCK-----
"""

ONE_LINE = """\
# deb http://commented.example/debian bookworm main
deb [arch=amd64,arm64 signed-by=/etc/apt/keys/a.gpg] http://mirror.example/debian bookworm main  # x
deb-src http://mirror.example/debian bookworm main
deb http://mirror.example/debian-security bookworm-security main contrib
"""


@pytest.fixture
def etc_apt(tmp_path: Path) -> Path:
    (tmp_path / "sources.list.d").mkdir()
    return tmp_path


def test_deb822_source_is_derived_with_its_key() -> None:
    source = apt.archive(apt.parse_deb822(DEB822), "bookworm")
    assert apt.derived(source, "trixie").splitlines()[1:] == [
        "Types: deb",
        "URIs: http://mirror.example/debian",
        "Suites: trixie",
        "Components: main",
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg",
    ]


def test_disabled_and_source_only_stanzas_are_left_out() -> None:
    uris = [source.uris for source in apt.parse_deb822(DEB822)]
    assert uris == [("http://mirror.example/debian",), ("http://mirror.example/debian-security",)]


def test_inline_key_survives() -> None:
    """A key that is written into the source stays one field, line for line."""
    text = apt.derived(apt.archive(apt.parse_deb822(INLINE_KEY), "bookworm"), "trixie")
    assert text.endswith(
        "Signed-By: \n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBFit2ioBEADhWpZ8\n"
        " -----END PGP PUBLIC KEY BLOCK-----\n"
    )


def test_one_line_source_is_derived_with_its_options() -> None:
    source = apt.archive(apt.parse_one_line(ONE_LINE), "bookworm")
    lines = apt.derived(source, "trixie").splitlines()
    assert "URIs: http://mirror.example/debian" in lines
    assert "Architectures: amd64 arm64" in lines
    assert "Signed-By: /etc/apt/keys/a.gpg" in lines
    assert len(apt.parse_one_line(ONE_LINE)) == 2


def test_both_forms_and_both_places_are_read(etc_apt: Path) -> None:
    (etc_apt / "sources.list").write_text("deb http://one.example/debian bookworm main\n")
    (etc_apt / "sources.list.d" / "a.list").write_text("deb http://two.example/d other main\n")
    (etc_apt / "sources.list.d" / "b.sources").write_text(DEB822)
    found = apt.sources(etc_apt)
    assert [source.uris[0] for source in found][:2] == [
        "http://one.example/debian",
        "http://two.example/d",
    ]
    assert len(found) == 4


def test_a_machine_without_its_distributions_source_is_told_so() -> None:
    with pytest.raises(TestbedError, match="no source for bookworm main"):
        apt.archive(apt.parse_one_line("deb http://x.example/a other main"), "bookworm")


def test_only_the_engines_packages_come_from_the_newer_suite() -> None:
    stanzas = apt.preferences("trixie", apt.NEWER_PACKAGES).split("\n\n")
    assert stanzas[0].splitlines() == [
        "Package: *",
        "Pin: release n=trixie",
        "Pin-Priority: -10",
    ]
    assert stanzas[1].splitlines()[0] == (
        "Package: docker.io docker-cli docker-compose docker-buildx"
    )


def test_the_newer_suite_is_written_once(etc_apt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second run finds its files as they should be and says nothing."""
    monkeypatch.setattr(apt, "os_release", lambda: {"VERSION_CODENAME": "bookworm"})
    (etc_apt / "sources.list.d" / "debian.sources").write_text(DEB822)
    said: list[str] = []
    apt.add_newer_suite(said.append, etc_apt)
    assert len(said) == 2
    apt.add_newer_suite(said.append, etc_apt)
    assert len(said) == 2


def test_os_release(tmp_path: Path) -> None:
    file = tmp_path / "os-release"
    file.write_text('ID=debian\nVERSION_CODENAME=bookworm\nNAME="Debian GNU/Linux"\n')
    assert apt.os_release(file)["NAME"] == "Debian GNU/Linux"
    assert apt.os_release(tmp_path / "none") == {}
