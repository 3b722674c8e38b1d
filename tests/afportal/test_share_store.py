"""Share links as all hubs keep them: nobody finds what is not theirs, and what ends is deleted."""

from __future__ import annotations

import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from afportal.catalogue import Catalogue, load
from afportal.offers import Person
from afportal.share.bodies import Audience, NewShare, RanIn, Snapshot
from afportal.share.contents import LEFT_BEHIND_S, Received, TooLarge
from afportal.share.environment import nearest, offered_to, places_of, ran_in
from afportal.share.link import OPENED, Share, ShareRefused, TooManyGuesses
from afportal.share.settings import MIB, ShareSettings
from afportal.share.store import ARRIVAL_LIFE_S, Shares

CATALOGUE = Path(__file__).parents[2] / "compose" / "hub" / "config" / "catalogue.yaml"
RAN_IN = RanIn(environment="python", title="Python")
NOTEBOOK = Snapshot(kind="notebook", name="a.ipynb", path="work/a.ipynb", files=1, saved_s=1.0)


class Clock:
    """Goes when it is told to."""

    def __init__(self) -> None:
        self.now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def settings_in(folder: Path, **more: Any) -> ShareSettings:
    (folder / "database").mkdir(exist_ok=True)
    return ShareSettings(
        database=f"sqlite:///{folder}/database/shares.sqlite", folder=folder / "contents", **more
    )


@pytest.fixture
def shares(tmp_path: Path, clock: Clock) -> Shares:
    return Shares(settings_in(tmp_path, largest_mib=1, quota_mib=2, most_links=3), clock)


def received(shares: Shares, content: bytes = b"content") -> Received:
    receiving = shares.contents.receive(10 * MIB)
    receiving.write(content)
    return receiving.done()


def made(
    shares: Shares, owner: str = "alice", content: bytes = b"content", **more: Any
) -> tuple[str, Share]:
    asked = NewShare(snapshot=NOTEBOOK, **more)
    return shares.add(owner, "htc-1", asked, RAN_IN, received(shares, content))


def files(shares: Shares) -> list[Path]:
    return sorted(shares.settings.folder.iterdir())


def test_another_hub_finds_it(shares: Shares, tmp_path: Path) -> None:
    """By the link alone, which stands nowhere: neither in the database nor in a file's name."""
    key, share = made(shares)
    other = Shares(shares.settings, shares.clock)
    assert other.find(key, "bob") == share
    assert len(key) >= 22, "fewer than 128 bits"
    kept = b"".join(path.read_bytes() for path in (tmp_path / "database").iterdir())
    assert key.encode() not in kept
    (file,) = files(shares)
    assert key not in file.name
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_two_hubs_begin_and_write_at_once(tmp_path: Path) -> None:
    """None of them meets a table that another just made, or a database that is locked."""
    hubs = [Shares(settings_in(tmp_path)) for _ in range(4)]
    faults: list[Exception] = []

    def work(hub: Shares, number: int) -> None:
        try:
            for turn in range(5):
                key, share = made(hub, f"person-{number}", b"%d %d" % (number, turn))
                assert hub.find(key, "bob") == share
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=work, args=(hub, n)) for n, hub in enumerate(hubs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert len(hubs[0].all()) == 20


def test_guessing_finds_nothing_and_ends_soon(shares: Shares, clock: Clock) -> None:
    """After ten links that are none, not even a good one is looked at, for a while."""
    key, share = made(shares)
    refused = 0
    for guess in range(1000):
        try:
            assert shares.find(f"{guess:032d}", "mallory") is None
        except TooManyGuesses:
            refused += 1
    assert refused == 990
    with pytest.raises(TooManyGuesses) as raised:
        shares.find(key, "mallory")
    assert raised.value.status == 429
    assert 0 < raised.value.wait_s <= 600
    assert shares.find(key, "bob") == share, "others are not kept out"
    clock.now_s += 601
    assert shares.find(key, "mallory") == share


def test_lifetime(shares: Shares, clock: Clock) -> None:
    """An hour, or what its owner says within the facility's ceiling."""
    _, share = made(shares)
    assert share.expires_s == clock.now_s + 3600
    _, share = made(shares, lifetime_min=2880)
    assert share.expires_s == clock.now_s + 2 * 86400
    with pytest.raises(ShareRefused, match="2881 minutes asked; a link is good for at most 2880"):
        made(shares, lifetime_min=2881)
    assert share.over(clock.now_s) == ""
    assert share.over(share.expires_s) == "expired"


@pytest.mark.parametrize(
    ("audience", "those", "not_those"),
    [
        ({}, [("bob", "")], []),
        (
            {"kind": "groups", "names": ["cms", "dune"]},
            [("bob", "dune")],
            [("cms", ""), ("bob", "atlas")],
        ),
        ({"kind": "people", "names": ["bob"]}, [("bob", "")], [("carol", "bob")]),
    ],
)  # fmt: skip
def test_whom_it_is_for(audience: Any, those: Any, not_those: Any) -> None:
    """A group's name is no person's, nor the other way round."""
    found = Audience.model_validate(audience)
    for person, group in those:
        assert found.has(person, frozenset({group}))
    for person, group in not_those:
        assert not found.has(person, frozenset({group}))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"name": "../a"}, "plain name"),
        ({"name": ".bashrc"}, "plain name"),
        ({"name": "a\n.ipynb"}, "plain name"),
        ({"name": "a\u202eb"}, "plain name"),
        ({"name": ""}, "name"),
        ({"name": "ä" * 101}, "200 bytes"),
        ({"files": 0}, "files"),
        ({"kernel": "k\x00"}, "visible"),
        ({"saved_s": float("inf")}, "finite"),
        ({"owner": "bob"}, "Extra inputs"),
    ],
)
def test_what_a_session_may_not_say(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Snapshot.model_validate({**NOTEBOOK.model_dump(), **wrong})


@pytest.mark.parametrize(
    "wrong",
    [{"kind": "groups"}, {"names": ["cms"]}, {"kind": "people", "names": ["$(id)"]},
     {"kind": "people", "names": ["a"] * 21}],
)  # fmt: skip
def test_an_audience_that_makes_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Audience.model_validate(wrong)


def test_a_renewed_link_is_the_same_link(shares: Shares, clock: Clock) -> None:
    """With another content a version more, of which alone there is a file; its time begins anew."""
    key, share = made(shares)
    clock.now_s += 3000
    same = shares.renew("alice", share.id, NOTEBOOK, RAN_IN, received(shares))
    assert (same.version, same.expires_s) == (1, clock.now_s + 3600)
    newer = Snapshot.model_validate({**NOTEBOOK.model_dump(), "name": "b.ipynb", "saved_s": 9.0})
    renewed = shares.renew("alice", share.id, newer, RAN_IN, received(shares, b"changed"))
    assert (renewed.version, renewed.size) == (2, 7)
    assert (renewed.snapshot.name, renewed.snapshot.saved_s) == ("a.ipynb", 9.0)
    assert shares.find(key, "bob") == renewed
    assert [file.read_bytes() for file in files(shares)] == [b"changed"]


def test_nobody_renews_or_ends_anothers(shares: Shares) -> None:
    """And one that has ended is not made good again, nor made a folder."""
    _, share = made(shares)
    with pytest.raises(ShareRefused, match="you have no link"):
        shares.renew("bob", share.id, NOTEBOOK, RAN_IN, received(shares))
    with pytest.raises(ShareRefused, match="you have no link"):
        shares.revoke("bob", share.id)
    folder = NOTEBOOK.model_copy(update={"kind": "folder"})
    with pytest.raises(ShareRefused, match="a folder was sent; this link is to a notebook"):
        shares.renew("alice", share.id, folder, RAN_IN, received(shares))
    shares.revoke("alice", share.id)
    with pytest.raises(ShareRefused, match="this link is revoked: make a new one"):
        shares.renew("alice", share.id, NOTEBOOK, RAN_IN, received(shares))


def test_there_is_an_end_to_it(shares: Shares) -> None:
    """So much for a person together, and so many links; what has ended gives its room back."""
    _, first = made(shares, content=b"x" * MIB)
    assert shares.most_bytes("alice") == MIB
    made(shares, content=b"x" * (MIB // 2))
    assert shares.most_bytes("alice") == MIB // 2
    assert shares.most_bytes("alice", first.id) == MIB, "a renewed one gives its own room"
    with pytest.raises(ShareRefused, match=r"1\.0 MiB sent; .* 2 MiB, of which 0\.5 are left"):
        made(shares, content=b"x" * MIB)
    made(shares)
    with pytest.raises(ShareRefused, match="you have 3 links; 3 are the most: revoke one"):
        made(shares)
    with pytest.raises(ShareRefused, match="you have 3 links"):
        shares.most_bytes("alice")
    assert shares.most_bytes("bob") == MIB
    shares.revoke("alice", first.id)
    assert shares.most_bytes("alice") == MIB


def test_a_revoked_link_is_gone_at_once(shares: Shares) -> None:
    """Its snapshot too, also for whom it waits."""
    key, share = made(shares)
    arrival = shares.expect(share, "bob", "htc-1", "", outputs=True)
    shares.revoke("alice", share.id)
    assert files(shares) == []
    found = shares.find(key, "bob")
    assert found is not None
    assert found.over(shares.clock()) == "revoked"
    with pytest.raises(ShareRefused, match="ended meanwhile"):
        shares.arrival(arrival, "bob", "htc-1", "")


def test_what_has_expired_is_deleted(shares: Shares, clock: Clock) -> None:
    """Once nobody who was let in waits for it any more; who opened it is known a month longer."""
    _, share = made(shares)
    arrival = shares.expect(share, "bob", "htc-1", "", outputs=False)
    clock.now_s += 3601
    shares.sweep()
    assert len(files(shares)) == 1
    assert shares.arrival(arrival, "bob", "htc-1", "").outputs is False
    clock.now_s += ARRIVAL_LIFE_S
    assert shares.sweep() == 1
    assert files(shares) == []
    assert shares.sweep() == 0
    shares.note(share, "bob", OPENED, "htc-1")
    clock.now_s += 29 * 86400
    shares.sweep()
    assert len(shares.uses(shares.of("alice"))[share.id]) == 1
    clock.now_s += 2 * 86400
    shares.sweep()
    assert shares.of("alice") == []


def test_a_copy_is_fetched_once_by_whom_it_is_for(shares: Shares) -> None:
    """Not by another person's server, nor another of theirs, nor twice; and it is remembered."""
    _, share = made(shares)
    key = shares.expect(share, "bob", "htc-1", "two", outputs=True)
    others = (("carol", "htc-1", "two"), ("bob", "hpc-1", "two"), ("bob", "htc-1", ""))
    for person, cell, server in others:
        with pytest.raises(ShareRefused, match="no such copy"):
            shares.fetch(key, person, cell, server)
    assert shares.opened(share, "bob") is None
    fetched, file = shares.fetch(key, "bob", "htc-1", "two")
    with file:
        assert (fetched, file.read()) == (share, b"content")
    with pytest.raises(ShareRefused, match="no such copy"):
        shares.fetch(key, "bob", "htc-1", "two")
    (use,) = shares.uses([share])[share.id]
    assert (use.person, use.what, use.version, use.cell) == ("bob", OPENED, 1, "htc-1")
    assert shares.opened(share, "bob") == use


def test_what_is_half_received_is_gone(shares: Shares, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one that is too large too, and later what a killed hub left."""
    receiving = shares.contents.receive(4)
    with pytest.raises(TooLarge):
        receiving.write(b"12345")
    receiving.give_up()
    assert files(shares) == []
    shares.contents.receive(4)
    made(shares)
    assert shares.sweep() == 0
    monkeypatch.setattr("afportal.share.contents.LEFT_BEHIND_S", -LEFT_BEHIND_S)
    assert shares.sweep() == 1
    assert len(files(shares)) == 1


def test_a_person_who_is_gone_leaves_no_link(shares: Shares) -> None:
    """A later one of that name is another person."""
    key, _ = made(shares)
    shares.revoke_all("alice")
    found = shares.find(key, "bob")
    assert found is not None
    assert found.over(shares.clock()) == "revoked"


def test_settings_that_contradict_each_other(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="lifetime_min 60 is more than longest_min 10"):
        settings_in(tmp_path, longest_min=10)
    with pytest.raises(ValidationError, match="largest_mib 100 is more than quota_mib 50"):
        settings_in(tmp_path, quota_mib=50)


# In which environment


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load(CATALOGUE)


def proposed(catalogue: Catalogue, wanted: RanIn, *groups: str) -> tuple[str, bool, str]:
    person, backends = Person("bob", frozenset(groups)), ("htcondor", "local")
    offered = offered_to(catalogue, person, backends)
    found = nearest(wanted, NOTEBOOK, offered, catalogue, person.groups)
    assert found is not None
    places = places_of(found.environment, catalogue, person, backends)
    assert places
    assert {place.backend for place in places} <= {*backends}
    return found.environment.name, found.same, found.how


def of(catalogue: Catalogue, name: str) -> RanIn:
    return ran_in(next(e for e in catalogue.environments if e.name == name))


def test_the_same_environment_where_it_is_offered(catalogue: Catalogue) -> None:
    assert proposed(catalogue, of(catalogue, "python")) == ("python", True, "")
    assert proposed(catalogue, of(catalogue, "cms-lpc"), "cms") == ("cms-lpc", True, "")


def test_the_nearest_where_it_is_not(catalogue: Catalogue) -> None:
    """And how that was chosen: image, kernel, section, name, and at last the facility's first."""
    wanted = of(catalogue, "astro").model_copy(update={"environment": "astro-2"})
    name, same, how = proposed(catalogue, wanted)
    assert (name, same) == ("astro", False)
    assert how == f"it has the same container {wanted.image}"
    wanted = RanIn(environment="x", title="X", section="ACCEL-AI")
    name, same, how = proposed(catalogue, wanted)
    assert name.startswith("accel-")
    assert how == "it is of the same section, ACCEL-AI"
    name, _, how = proposed(catalogue, RanIn(environment="pythons", title="X"))
    assert (name, how) == ("python", "its name is most like that")
    name, _, how = proposed(catalogue, RanIn(environment="zzzz", title="Z"))
    assert (name, how) == ("python", "none is like that; it is the facility's first")


def test_what_somebody_added_for_themselves_is_nobody_elses(catalogue: Catalogue) -> None:
    """Their name of it may be another's name of something else."""
    own = catalogue.environments[0].model_copy(update={"name": "own.mine"})
    person = Person("bob", own=(own,))
    offered = offered_to(catalogue, person, ("local",))
    assert own in offered
    wanted = RanIn(environment="own.mine", title="Mine", own=True)
    found = nearest(wanted, NOTEBOOK, offered, catalogue, frozenset())
    assert found is not None
    assert not found.same
    assert not found.environment.own
