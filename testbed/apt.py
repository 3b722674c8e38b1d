"""Debian's package sources of this machine: read, derive another suite's from them, install.

The address of the archive is always the machine's own, so that a mirror, a proxy or a
snapshot that somebody set up is used for what the testbed installs too.
"""

import re
import shutil
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from testbed.errors import TestbedError

Say = Callable[[str], None]

SOURCES_DIR = Path("/etc/apt")
OS_RELEASE = Path("/etc/os-release")
NEWER_SUITE = "trixie"  # the first Debian with compose >= 2.20 and buildx
NEWER_PACKAGES = ("docker.io", "docker-cli", "docker-compose", "docker-buildx")
SOURCE_NAME = "sources.list.d/af-testbed-trixie.sources"
PREFERENCES_NAME = "preferences.d/af-testbed-trixie"


@dataclass(frozen=True)
class Source:
    """One archive that apt reads, from either form of its files."""

    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    options: dict[str, str] = field(default_factory=dict)  # deb822 names: Signed-By, Architectures


def os_release(path: Path = OS_RELEASE) -> dict[str, str]:
    """The distribution's own description; empty where there is none."""
    if not path.is_file():
        return {}
    pairs = (line.partition("=") for line in path.read_text().splitlines())
    return {name: value.strip("\"'") for name, equals, value in pairs if equals}


def is_debian(path: Path = OS_RELEASE) -> bool:
    return os_release(path).get("ID") == "debian" and shutil.which("apt-get") is not None


def sources(folder: Path = SOURCES_DIR) -> list[Source]:
    """Every enabled binary source of a machine's apt configuration."""
    found: list[Source] = []
    one_line = [folder / "sources.list", *sorted(folder.glob("sources.list.d/*.list"))]
    for file in one_line:
        if file.is_file():
            found += parse_one_line(file.read_text())
    for file in sorted(folder.glob("sources.list.d/*.sources")):
        found += parse_deb822(file.read_text())
    return found


def parse_one_line(text: str) -> list[Source]:
    """Sources in the form `deb [arch=amd64 signed-by=…] URI SUITE COMPONENT…`.

    Source: sources.list(5), 'One-line-style format'.
    """
    long_names = {
        "arch": "Architectures",
        "lang": "Languages",
        "target": "Targets",
        "signed-by": "Signed-By",
        "trusted": "Trusted",
        "check-valid-until": "Check-Valid-Until",
    }
    found = []
    for raw in text.splitlines():
        line = raw.split("#", 1)[0].strip()
        parts = re.match(r"deb\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)\s*(.*)$", line)
        if not parts:
            continue
        options = {}
        for option in (parts[1] or "").split():
            name, _, value = option.partition("=")
            if name.lower() in long_names:
                options[long_names[name.lower()]] = value.replace(",", " ")
        found.append(Source((parts[2],), (parts[3],), tuple(parts[4].split()), options))
    return found


def parse_deb822(text: str) -> list[Source]:
    """Sources in the form of stanzas of `Name: value` lines.

    Source: sources.list(5), 'deb822-style format'.
    """
    found = []
    for stanza in re.split(r"\n[ \t]*\n", re.sub(r"(?m)^#.*\n?", "", text)):
        fields: dict[str, str] = {}
        name = ""
        for line in stanza.splitlines():
            if line[:1] in (" ", "\t") and name:
                fields[name] += "\n" + line  # an inline key, kept as it is written
            elif ":" in line:
                raw_name, _, value = line.partition(":")
                name = raw_name.strip().title()
                fields[name] = value.strip()
        if "deb" not in fields.get("Types", "").split():
            continue
        if fields.get("Enabled", "yes").lower() in ("no", "false", "0"):
            continue
        kept = {
            name: value
            for name, value in fields.items()
            if name not in ("Types", "Uris", "Suites", "Components", "Enabled")
        }
        found.append(
            Source(
                tuple(fields.get("Uris", "").split()),
                tuple(fields.get("Suites", "").split()),
                tuple(fields.get("Components", "").split()),
                kept,
            )
        )
    return found


def archive(machine_sources: Iterable[Source], codename: str) -> Source:
    """The source that this machine has its distribution's main packages from.

    Raises:
        TestbedError: None of the sources has it.
    """
    for source in machine_sources:
        if codename in source.suites and "main" in source.components and source.uris:
            return source
    raise TestbedError(
        f"apt has no source for {codename} main",
        seen=f"looked in {SOURCES_DIR}/sources.list and sources.list.d",
        cure="add the distribution's own source, then apt-get update",
    )


def derived(source: Source, suite: str) -> str:
    """A deb822 source for another suite of the same archive, believed by the same keys."""
    lines = [
        "# From this machine's own source, for the testbed's container engine.",
        "Types: deb",
        f"URIs: {' '.join(source.uris)}",
        f"Suites: {suite}",
        "Components: main",
        *(f"{name}: {value}" for name, value in source.options.items()),
    ]
    return "\n".join(lines) + "\n"


def preferences(suite: str, packages: Iterable[str]) -> str:
    """Pins: these packages from that suite, and nothing else, not even as an upgrade."""
    return (
        f"Package: *\nPin: release n={suite}\nPin-Priority: -10\n\n"
        f"Package: {' '.join(packages)}\nPin: release n={suite}\nPin-Priority: 990\n"
    )


def candidate(package: str) -> str | None:
    """The version that apt would install, or None."""
    done = subprocess.run(
        ["apt-cache", "policy", package], capture_output=True, text=True, check=False
    )
    found = re.search(r"Candidate:\s*(\S+)", done.stdout)
    return found[1] if found and found[1] != "(none)" else None


def add_newer_suite(say: Say, folder: Path = SOURCES_DIR) -> None:
    """Give apt a pinned source of NEWER_SUITE; nothing but NEWER_PACKAGES comes from it."""
    codename = os_release().get("VERSION_CODENAME", "")
    text = derived(archive(sources(folder), codename), NEWER_SUITE)
    for name, content in (
        (SOURCE_NAME, text),
        (PREFERENCES_NAME, preferences(NEWER_SUITE, NEWER_PACKAGES)),
    ):
        file = folder / name
        if not file.is_file() or file.read_text() != content:
            say(f"writing {file}")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)


def update(say: Say) -> None:
    say("apt-get update")
    _apt("update")


def install(packages: Iterable[str], say: Say) -> None:
    """Install Debian packages without what they merely recommend."""
    names = list(packages)
    say("apt-get install " + " ".join(names))
    _apt("install", "-y", "--no-install-recommends", *names)


def _apt(*arguments: str) -> None:
    argv = ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=300", *arguments]
    # `env` keeps the environment as it is and only makes debconf silent.
    done = subprocess.run(
        ["env", "DEBIAN_FRONTEND=noninteractive", *argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise TestbedError(
            " ".join(argv) + f" ended with {done.returncode}",
            seen="\n".join(done.stdout.splitlines()[-12:]),
            cure=" ".join(argv),
        )
