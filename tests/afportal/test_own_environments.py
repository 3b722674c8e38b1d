"""What people add for themselves is offered to them, runs as them, and is refused with a reason."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from afportal import form
from afportal.catalogue import Catalogue, load
from afportal.offers import Person, Refusal, grant, place_of, read_options
from afportal.own_environments import MOST, OwnCatalogue
from afportal.pool import Machine, Pool, Room
from afportal.pool.forecast import Outlook

CATALOGUE = Path(__file__).parents[2] / "compose" / "hub" / "config" / "catalogue.yaml"
BACKENDS = ("htcondor", "slurm", "local")
MINE = {
    "environments": [
        {"name": "mine", "prefix": "/home/alice/mine"},
        {"name": "box", "container": {"image": "/home/alice/box.sif"}, "title": "My box"},
        {"name": "old-root", "prefix": "/home/alice/old-root", "kernel": True},
    ]
}


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load(CATALOGUE)


def alice(catalogue: Catalogue, *groups: str) -> Person:
    own = OwnCatalogue.model_validate(MINE).offered(catalogue, frozenset(groups))
    return Person("alice", frozenset(groups), own=own)


def test_the_form_has_them_under_yours(catalogue: Catalogue) -> None:
    """A kernel is offered in the facility's first folder, a container where there are some."""
    person = alice(catalogue)
    offered = form.offer(catalogue, backends=BACKENDS, person=person)["environments"]
    mine = {e["name"]: e for e in offered if e["section"] == "Yours"}
    assert set(mine) == {"own.mine", "own.box", "own.old-root"}
    assert mine["own.mine"]["backends"] == [*BACKENDS]
    assert mine["own.box"]["backends"] == ["htcondor", "slurm"]
    assert mine["own.box"]["title"] == "My box"
    assert "in Python 3, scikit-hep" in mine["own.old-root"]["description"]
    page = form.render(catalogue, backends=BACKENDS, person=person)
    assert '<optgroup label="Yours">' in page


def test_they_are_checked_again_at_the_start(catalogue: Catalogue) -> None:
    """Only who added it gets it, and whom a group binds to containers gets nothing of their own."""
    asked = read_options({"environment": "own.mine"})
    found = grant(asked, catalogue, backends=BACKENDS, person=alice(catalogue))
    assert found.environment.own
    assert found.environment.path == "/home/alice/mine/bin/python"
    with pytest.raises(Refusal, match=r"environment own\.mine asked; htcondor offers you"):
        grant(asked, catalogue, backends=BACKENDS, person=Person("bob"))
    with pytest.raises(Refusal, match="group visitors may use containers only"):
        grant(asked, catalogue, backends=BACKENDS, person=alice(catalogue, "visitors"))
    assert not [
        e
        for e in form.offer(catalogue, backends=BACKENDS, person=alice(catalogue, "visitors"))[
            "environments"
        ]
        if e["section"] == "Yours"
    ]


def test_one_of_their_own_can_start_now(catalogue: Catalogue) -> None:
    """The button takes the environment that is selected, which may be theirs."""
    room = Room(cores=8, memory_mib=16384)
    outlook = Outlook(Pool(machines=(Machine("login", room, room),)))
    place = place_of("local", outlook, "alice", frozenset())
    person = replace(alice(catalogue), places={"local": place})
    found = form.would_start_now(
        catalogue, backends=("local",), person=person, environment="own.mine"
    )
    assert (found.backend, found.environment) == ("local", "own.mine")


def test_a_kernel_comes_with_a_folder_that_its_owner_may_use(catalogue: Catalogue) -> None:
    """Not with one that is another group's, or that needs a GPU; and where that folder is."""
    environments = [
        {"name": "a", "title": "A", "prefix": "/opt/a", "groups": ["cms"]},
        {"name": "b", "title": "B", "prefix": "/opt/b", "gpus": "k40:1"},
        {"name": "c", "title": "C", "prefix": "/opt/c", "backends": ["slurm"]},
    ]
    classes = [c.model_dump() for c in catalogue.classes]
    facility = Catalogue.model_validate({"environments": environments, "classes": classes})
    mine = OwnCatalogue.model_validate(
        {"environments": [{"name": "k", "prefix": "/home/alice/k", "kernel": True}]}
    )
    (found,) = mine.offered(facility, frozenset())
    assert (found.prefix, found.backends) == ("/opt/c", ("slurm",))
    (found,) = mine.offered(facility, frozenset({"cms"}))
    assert (found.prefix, found.backends) == ("/opt/a", ())


def test_a_facility_without_containers_offers_none(catalogue: Catalogue) -> None:
    plain = Catalogue.model_validate(
        {
            "environments": [{"name": "a", "title": "A", "prefix": "/opt/a"}],
            "classes": [c.model_dump() for c in catalogue.classes],
        }
    )
    names = [e.name for e in OwnCatalogue.model_validate(MINE).offered(plain, frozenset())]
    assert names == ["own.mine", "own.old-root"]


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"name": "a"}, "either prefix or container"),
        ({"name": "A b", "prefix": "/a"}, "name"),
        ({"name": "a", "prefix": "relative"}, "prefix"),
        ({"name": "a", "prefix": "/a", "groups": ["cms"]}, "groups"),
        ({"name": "a", "prefix": "/a", "title": "x" * 81}, "title"),
        ({"name": "a", "container": {"image": "/a", "bind": [{"source": "/b:/etc"}]}}, "source"),
    ],
)
def test_what_cannot_be_added(entry: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        OwnCatalogue.model_validate({"environments": [entry]})


def test_there_is_an_end_to_it() -> None:
    """Only so many, and no name twice."""
    many = [{"name": f"e{number}", "prefix": "/a"} for number in range(MOST + 1)]
    with pytest.raises(ValueError, match=f"at most {MOST} items"):
        OwnCatalogue.model_validate({"environments": many})
    with pytest.raises(ValueError, match="more than once: e1"):
        OwnCatalogue.model_validate({"environments": [many[1], many[1]]})


def test_the_hub_keeps_them_for_each_person(tmp_path: Path) -> None:
    """In place of what was there; what is right no more is left out."""
    from jupyterhub import orm
    from sqlalchemy import event

    from afportal.own_register import OwnCatalogueRow, OwnRegister

    database = orm.new_session_factory(f"sqlite:///{tmp_path}/hub.sqlite")()
    register = OwnRegister(lambda: database)
    mine = OwnCatalogue.model_validate(MINE)
    register.keep("alice", OwnCatalogue())
    register.keep("alice", mine)
    assert register.of("alice") == mine
    assert register.of("bob") == OwnCatalogue()
    commits = []
    event.listen(database, "after_commit", commits.append)
    register.keep("alice", mine)
    assert commits == [], "what is known already costs the hub a commit"
    database.get(OwnCatalogueRow, "alice").definitions = '{"environments": [{"name": "A b"}]}'
    assert register.of("alice") == OwnCatalogue()
    database.add(user := orm.User(name="alice"))
    register.keep("alice", mine)
    database.delete(user)
    database.commit()
    assert register.of("alice") == OwnCatalogue(), "a later alice is another person"


def told_the_hub(
    catalogue: Catalogue,
    body: bytes,
    monkeypatch: pytest.MonkeyPatch,
    *,
    groups: frozenset[str] = frozenset(),
    elsewhere: bool = False,
) -> tuple[dict[str, Any], list[str]]:
    """What the hub answers to that body of alice's session, and of whom it kept something."""
    from tornado import web

    from afportal.own_api import OwnEnvironmentsHandler
    from afportal.portal import Portal

    kept: list[str] = []
    answers: list[dict[str, Any]] = []
    register = SimpleNamespace(keep=lambda person, _own: kept.append(person))
    portal = SimpleNamespace(catalogue=catalogue, own=register)
    spawner = SimpleNamespace(user=SimpleNamespace(name="alice"), groups=lambda: groups)
    handler: Any = object.__new__(OwnEnvironmentsHandler)

    async def check_host(_spawner: object) -> str:
        if elsewhere:
            raise web.HTTPError(403, "this job does not run at 192.0.2.1")
        return "192.0.2.7"

    handler.request = SimpleNamespace(body=body)
    handler._spawner, handler._check_host = lambda: spawner, check_host
    handler._answer = answers.append
    monkeypatch.setattr(Portal, "_instance", portal)
    try:
        asyncio.run(handler.post())
    except web.HTTPError as error:
        answers.append({"status": error.status_code, "message": error.log_message})
    return answers[0], kept


def test_the_hub_answers_what_it_will_offer(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, kept = told_the_hub(catalogue, json.dumps(MINE).encode(), monkeypatch)
    assert answer == {"offered": ["own.mine", "own.box", "own.old-root"]}
    assert kept == ["alice"]


@pytest.mark.parametrize(
    ("body", "how", "status", "told"),
    [
        (b"x" * 70_000, {}, 413, "70000 bytes sent; 65536 are taken"),
        (b'{"environments": [{"name": "a", "prefix": "b"}]}', {}, 400, "an absolute path"),
        (b'{"environments": [], "user": "bob"}', {}, 400, "user: Extra inputs"),
        (json.dumps(MINE).encode(), {"elsewhere": True}, 403, "does not run at"),
        (
            json.dumps(MINE).encode(),
            {"groups": frozenset({"visitors"})},
            403,
            "3 own environments asked; people of the group visitors",
        ),
    ],
)
def test_the_hub_refuses_with_a_reason_and_keeps_nothing(
    catalogue: Catalogue,
    body: bytes,
    how: dict[str, Any],
    status: int,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer, kept = told_the_hub(catalogue, body, monkeypatch, **how)
    assert answer["status"] == status
    assert told in answer["message"]
    assert kept == []
