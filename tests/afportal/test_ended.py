"""Why a server is no more, and what to do about it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jinja2
import pytest

from afportal import configure
from afportal.backends import Cause, Traits
from afportal.catalogue import Catalogue, load
from afportal.ended import Ended, WithEnding, larger
from afportal.spawn_story import SpawnStory

CATALOGUE = Path(__file__).parents[2] / "compose/hub/config/catalogue.yaml"
TEMPLATES = Path(configure.__file__).parent / "templates"


@pytest.fixture
def catalogue() -> Catalogue:
    """The testbed's."""
    return load(CATALOGUE)


class Server(WithEnding):
    """A spawner's part for its end."""

    def __init__(self, catalogue: Catalogue, **options: Any) -> None:
        backends = {"slurm": SimpleNamespace(traits=Traits())}
        self.portal = SimpleNamespace(backends=backends)  # type: ignore[assignment]
        self.catalogue = catalogue
        self.orm_spawner = SimpleNamespace(user_options=options)
        self.log = SimpleNamespace(warning=lambda *_: None)
        self.story = SpawnStory()
        self.backend_name, self.name, self._log_name = "slurm", "", "alice"
        self.said_hello, self.memory_limit_mib, self.peak_mib = True, 1536, 0

    def groups(self) -> frozenset[str]:
        return frozenset()

    def offered(self) -> Catalogue:
        return self.catalogue

    def commit_state(self) -> None:
        pass


def test_the_first_word_counts(catalogue: Catalogue) -> None:
    """What the scheduler said is not replaced by the stop that follows it."""
    server = Server(catalogue)
    server.story.reason = "OUT_OF_MEMORY"
    server.had_memory(1400)
    server.had_memory(900)
    server.has_ended(Cause.MEMORY, peak_mib=1500)
    server.has_ended(Cause.STOPPED)
    assert server.ended is not None
    assert (server.ended.cause, server.ended.peak_mib) == (Cause.MEMORY, 1500)
    assert server.ended.memory == "At most 1500 of 1536 MiB of memory were in use."


def test_what_never_ran_has_no_end(catalogue: Catalogue) -> None:
    """A spawn that failed is told as one."""
    server = Server(catalogue)
    server.said_hello = False
    server.has_ended(Cause.STOPPED)
    assert server.ended is None


@pytest.mark.parametrize(
    ("backend", "limit_mib", "name"),
    [
        ("slurm", 768, "small"),
        ("slurm", 1536, "regular"),
        ("slurm", 4096, "naf-12"),
        ("slurm", 49152, None),
        ("htcondor", 1536, "regular"),  # not the reserved slot, which asks for less
        ("local", 1536, None),
    ],
)
def test_the_class_next_in_size(
    catalogue: Catalogue, backend: str, limit_mib: int, name: str | None
) -> None:
    """The smallest in which a server has more memory before it is stopped."""
    found = larger(catalogue, backend, frozenset(), limit_mib)
    assert (found.name if found else None) == name


def test_larger_is_offered_where_memory_was_the_cause(catalogue: Catalogue) -> None:
    """By the scheduler's word, or because a kernel was ended for it before."""
    asked = {"backend": "slurm", "class": "small", "memory_mib": 1536, "partition": "short"}
    server = Server(catalogue, **asked)
    server.has_ended(Cause.STOPPED)
    assert server.again_larger() is None
    assert server.again() == [(name, str(value)) for name, value in asked.items()]
    for cause, notice in ((Cause.MEMORY, ""), (Cause.STOPPED, "out of memory: a process …")):
        server.ended, server.story.notice = None, notice
        server.has_ended(cause)
        assert server.again_larger() == (
            "Regular (2 cores, 4 GB, 8 h), waits for a slot",
            [("backend", "slurm"), ("partition", "short"), ("class", "regular")],
        )


def test_it_outlives_the_hub_and_nothing_else_is_taken_for_it() -> None:
    """What a hub wrote is read by the next; what another version wrote is no end."""
    ended = Ended(Cause.TIME, "TIMEOUT", at_s=1_700_000_000.0, peak_mib=7, backend="slurm")
    assert Ended.read(ended.as_dict()) == ended
    for other in (None, {}, {"cause": "boredom"}, "time", {"cause": "time", "peak_mib": "much"}):
        assert Ended.read(other) is None


def test_the_page_takes_no_text_for_html(catalogue: Catalogue) -> None:
    """Words of schedulers and of people are text, wherever they stand."""
    server = Server(catalogue, **{"class": 'small"><script>'})
    server.story.reason = "<script>alert(1)</script>"
    server.has_ended(Cause.MEMORY)
    page = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True
    ).from_string('{% from "af_ended.html" import ended %}{{ ended(server, url, "token") }}')
    text = page.render(server=server, url='/hub/spawn/alice?next="><script>')
    assert "<script>" not in text
    assert "It used up its memory" in text
    assert "Start it larger" in text
    assert text.count('name="_xsrf" value="token"') == 2
