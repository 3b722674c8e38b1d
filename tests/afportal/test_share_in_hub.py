"""Share links at a whole hub: what its sessions may send and fetch, and what its pages say."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from jupyterhub import orm
from traitlets.config import Config

from afportal.hub_api import SessionHandler
from afportal.share.api import HEADER
from afportal.share.settings import MIB
from tests.afportal.fakes import NeverMatched
from tests.afportal.portal_in_process import RunningPortal, running_portal
from tests.afportal.test_form_in_hub import words

CATALOGUE = """\
environments:
  - {name: python, title: Python, prefix: /opt/envs/python}
  - {name: theirs, title: Of cms, prefix: /opt/envs/theirs, groups: [cms]}
classes:
  - {name: small, title: Small, backends: [near, far], cores: 1, memory_mib: 512, runtime_min: 60}
"""
FRONT = "https://front.example/-/share"
NOTEBOOK = b"as a tar, which no hub looks into"


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPortal]:
    """A hub with share links; a server is whoever has its token, wherever it runs."""
    folder = tmp_path_factory.mktemp("hub")
    (folder / "catalogue.yaml").write_text(CATALOGUE)
    settings = folder / "portal.yaml"
    settings.write_text(
        "catalogue: catalogue.yaml\nbackends: {near: {}, far: {}}\n"
        f"shares: {{database: 'sqlite:///{folder}/shares.sqlite', folder: '{folder}/shares', "
        f"url: '{FRONT}', largest_mib: 1, quota_mib: 2, most_files: 10}}\n"
    )
    config = Config()
    config.JupyterHub.allow_named_servers = True
    config.PortalSpawner.req_homedir = "/home/{username}"
    patch = pytest.MonkeyPatch()
    patch.setattr("afportal.portal.backend_of", lambda _: NeverMatched)

    async def check_host(*_: Any, **__: Any) -> str:
        return "127.0.0.1"

    patch.setattr(SessionHandler, "_check_host", check_host)
    with running_portal(folder, settings, config) as running:
        yield running
    patch.undo()


@dataclass
class Session:
    """A person with a server that runs."""

    portal: RunningPortal
    name: str
    token: str
    browser: requests.Session

    def ask(self, method: str, path: str, **more: Any) -> requests.Response:
        return self.portal.ask(method, path, self.token, **more)

    def send(
        self, path: str = "/af/shares", content: bytes = NOTEBOOK, about: Any = None, **more: Any
    ) -> requests.Response:
        snapshot = {
            "kind": "notebook", "name": "a.ipynb", "path": "work/a.ipynb", "files": 1,
            "saved_s": 1_700_000_000, "kernel": "python3", "kernel_title": "Python 3",
        }  # fmt: skip
        said = about or {"snapshot": {**snapshot, **more.pop("snapshot", {})}, **more}
        header = base64.b64encode(json.dumps(said).encode()).decode()
        headers = {"Authorization": f"token {self.token}", HEADER: header}
        url = f"{self.portal.hub.url}/hub/api{path}"
        return self.browser.post(url, content, headers=headers, timeout=60)

    def share(self, **more: Any) -> tuple[str, dict[str, Any]]:
        """Share a notebook; returns the link's key, and what the hub said."""
        answer = self.send(**more)
        assert answer.status_code == 200, answer.text
        told = answer.json()
        return parse_qs(urlsplit(told["url"]).query)["key"][0], told

    def look(self, key: str, **more: str) -> requests.Response:
        url = f"{self.portal.hub.url}/hub/af/share"
        return self.browser.get(url, params={"key": key, **more}, timeout=60)

    def go_on(self, key: str, fields: dict[str, str], **more: str) -> requests.Response:
        url = f"{self.portal.hub.url}/hub/af/share"
        query = {"key": key, "_xsrf": self.browser.cookies["_xsrf"], **more}
        return self.browser.post(url, fields, params=query, timeout=60, allow_redirects=False)


def running(portal: RunningPortal, name: str, *groups: str, environment: str = "python") -> Session:
    """Make a person whose default server counts as one that runs."""
    portal.person(name, *groups)
    browser = portal.browser(name)

    def run(database: Any) -> str:
        user = next(u for u in portal.hub.app.users.values() if u.name == name)
        token: str = user.new_api_token(note="its own", roles=[])
        spawner = user.spawners[""]
        spawner.token_id = orm.APIToken.find(database, token).id
        spawner.backend_name = "near"
        spawner.orm_spawner.user_options = {"environment": environment}
        spawner.orm_spawner.server = orm.Server(base_url=f"/user/{name}/")
        database.commit()
        return token

    return Session(portal, name, portal.hub.database(run), browser)


@pytest.fixture(scope="module")
def alice(portal: RunningPortal) -> Session:
    return running(portal, "alice", "cms", environment="theirs")


@pytest.fixture(scope="module")
def bob(portal: RunningPortal) -> Session:
    return running(portal, "bob")


@pytest.fixture(scope="module")
def carol(portal: RunningPortal) -> Session:
    return running(portal, "carol", "cms", environment="theirs")


def problem(page: requests.Response) -> tuple[int, str]:
    """The status, and the words of a page that must be one that says what is wrong."""
    assert f'data-af-share-problem="{page.status_code}"' in page.text, words(page.text)
    return page.status_code, words(page.text)


def test_a_link_belongs_to_no_hub(alice: Session) -> None:
    """It is the front door's; the answer that made it alone has it."""
    key, told = alice.share()
    assert told["url"] == f"{FRONT}?on=&key={key}"
    listed = alice.ask("GET", "/af/shares").text
    assert told["id"] in listed
    assert key not in listed


def test_what_it_says_to_whom_it_is_for(alice: Session, carol: Session) -> None:
    """Whose, what, how large, from when, run in what: the hub's own record, not the session's."""
    key, told = alice.share(snapshot={"left_out": 2})
    page = carol.look(key)
    assert page.status_code == 200
    said = words(page.text)
    for part in (
        "a.ipynb", "alice shares this notebook with everybody", "2023-11-14 22:13 UTC",
        "version 1", "1 KiB", "2 entries were left out", "Of cms; kernel Python 3",
    ):  # fmt: skip
        assert part in said, part
    assert 'data-af-running="" data-af-fits="yes"' in page.text
    assert "data-af-nearest" not in page.text
    assert page.headers["Cache-Control"] == "no-store"
    assert page.headers["Referrer-Policy"] == "strict-origin"
    (use,) = next(one for one in listed(alice) if one["id"] == told["id"])["uses"]
    assert (use["person"], use["what"]) == ("carol", "looked")


def listed(session: Session) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = session.ask("GET", "/af/shares").json()["links"]
    return found


def test_the_nearest_environment_is_proposed(alice: Session, bob: Session) -> None:
    """To whom the owner's is not offered; the page says how it was chosen."""
    key, _ = alice.share()
    page = bob.look(key)
    assert 'data-af-nearest="python"' in page.text
    said = words(page.text)
    assert "Of cms is not offered to you at this hub. The nearest that is: Python ;" in said
    assert 'name="environment" value="python"' in page.text


def test_nobody_is_let_in_without_login(portal: RunningPortal, alice: Session) -> None:
    """Neither to a page, nor by a token of one's own that is no server's, nor without any."""
    key, told = alice.share()
    stranger = portal.hub.browser()
    for path in (f"af/share?key={key}", "af/shares", "af/shares/all"):
        url = f"{portal.hub.url}/hub/{path}"
        sent_to = stranger.get(url, timeout=60, allow_redirects=False)
        assert sent_to.status_code == 302
        assert "/hub/login" in sent_to.headers["Location"]
        by_token = stranger.get(
            url, headers={"Authorization": f"token {alice.token}"}, timeout=60,
            allow_redirects=False,
        )  # fmt: skip
        assert by_token.status_code == 302
        forged = stranger.post(url, timeout=60, allow_redirects=False)
        assert forged.status_code == 403
    own = portal.person("dora")
    for token in (own, "no-such-token"):
        for method, path in (("GET", "/af/shares"), ("POST", "/af/shares"),
                             ("POST", f"/af/shares/{told['id']}"),
                             ("DELETE", f"/af/shares/{told['id']}"),
                             ("POST", "/af/share-arrivals"),
                             ("POST", "/af/share-arrivals/content")):  # fmt: skip
            answer = portal.ask(method, path, token, json={"key": key})
            assert answer.status_code == 403, (method, path, answer.text)


def test_a_form_of_another_site_does_nothing(alice: Session, carol: Session) -> None:
    """Neither opens nor revokes: the page's own mark is asked for."""
    key, told = alice.share()
    for session, path, fields in (
        (carol, f"af/share?key={key}&where=running", {"server": ""}),
        (alice, "af/shares", {"id": told["id"]}),
    ):
        url = f"{session.portal.hub.url}/hub/{path}"
        assert session.browser.post(url, fields, timeout=60).status_code == 403
    assert carol.look(key).status_code == 200


def test_an_outsider_is_told_whom_it_is_for(alice: Session, bob: Session, carol: Session) -> None:
    """And its owner sees who was refused. Nothing of the notebook is told."""
    key, told = alice.share(audience={"kind": "groups", "names": ["cms"]})
    assert carol.look(key).status_code == 200
    status, said = problem(bob.look(key))
    assert status == 403
    assert "alice made it for members of cms; you are bob, in no group. Ask alice" in said
    assert "a.ipynb" not in said
    assert problem(bob.go_on(key, {"server": ""}, where="running"))[0] == 403
    (link,) = [one for one in listed(alice) if one["id"] == told["id"]]
    assert {(use["person"], use["what"]) for use in link["uses"]} == {
        ("carol", "looked"), ("bob", "refused"),
    }  # fmt: skip


def test_bad_links(alice: Session, bob: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page for each that says what is wrong and what to do."""
    key, told = alice.share()
    for mangled in ("", key[:-3], key + "x", key[:-1] + "=", "../../etc/passwd"):
        status, said = problem(bob.look(mangled))
        assert status == 400
        assert "no whole share link" in said
    status, said = problem(bob.look("x" * 32))
    assert status == 404
    assert "There is no such share link" in said
    assert alice.ask("DELETE", f"/af/shares/{told['id']}").status_code == 204
    status, said = problem(bob.look(key))
    assert status == 410
    assert "This link has been revoked" in said
    assert "Ask alice for a new one" in said
    key, _ = alice.share(lifetime_min=1)
    shares = alice.portal.portal.shares
    assert shares is not None
    later = shares.clock() + 61
    monkeypatch.setattr(shares, "clock", lambda: later)
    status, said = problem(bob.look(key))
    assert status == 410
    assert "This link has expired" in said


def test_who_guesses_is_stopped(alice: Session, portal: RunningPortal) -> None:
    """With 429, and good links are refused to them too."""
    key, _ = alice.share()
    portal.person("mallory")
    mallory = Session(portal, "mallory", "", portal.browser("mallory"))
    answers = [mallory.look(f"{guess:032d}").status_code for guess in range(12)]
    assert answers == [404] * 10 + [429] * 2
    page = mallory.look(key)
    assert "you can open links again in 10 minutes" in problem(page)[1]
    assert 0 < int(page.headers["Retry-After"]) <= 600


def test_a_copy_goes_to_the_server_that_was_chosen(
    alice: Session, bob: Session, carol: Session
) -> None:
    """By its own token, once; outputs as chosen; its owner sees who has one."""
    key, told = alice.share()
    sent_on = carol.go_on(key, {"server": ""}, where="running", outputs="clear")
    assert sent_on.status_code == 303
    goal = urlsplit(sent_on.headers["Location"])
    assert goal.path == "/user/carol/af/arrive"
    arrival = parse_qs(goal.query)["key"][0]
    for path in ("/af/share-arrivals", "/af/share-arrivals/content"):
        assert bob.ask("POST", path, json={"key": arrival}).status_code == 404
    about = carol.ask("POST", "/af/share-arrivals", json={"key": arrival}).json()
    assert about == {
        "share": told["id"], "owner": "alice", "kind": "notebook", "name": "a.ipynb",
        "version": 1, "size": len(NOTEBOOK), "files": 1, "outputs": False,
    }  # fmt: skip
    content = carol.ask("POST", "/af/share-arrivals/content", json={"key": arrival})
    assert content.content == NOTEBOOK
    again = carol.ask("POST", "/af/share-arrivals/content", json={"key": arrival})
    assert again.status_code == 404
    assert "open the link again" in again.text
    assert 'data-af-opened="1"' in carol.look(key).text
    (link,) = [one for one in listed(alice) if one["id"] == told["id"]]
    assert {(use["person"], use["what"]) for use in link["uses"]} == {
        ("carol", "looked"), ("carol", "opened"),
    }  # fmt: skip


def test_only_into_a_server_of_ones_own_that_runs(alice: Session, carol: Session) -> None:
    key, _ = alice.share()
    for name in ("other", "../alice", "alice"):
        status, said = problem(carol.go_on(key, {"server": name}, where="running"))
        assert status == 409
        assert "That server does not run any more" in said


def test_a_new_server_is_the_spawn_forms(portal: RunningPortal, alice: Session) -> None:
    """Its fields are sent on to it as they are; it leads to the copy when it has started."""
    portal.person("erin", "cms")
    erin = Session(portal, "erin", "", portal.browser("erin"))
    key, _ = alice.share()
    page = erin.look(key)
    assert "data-af-running" not in page.text
    assert re.findall(r'<option value="([^"]*)"', page.text) == ["near/small", "far/small"]
    fields = {"choice": "far/small", "environment": "theirs"}
    sent_on = erin.go_on(key, fields, where="new")
    assert sent_on.status_code == 307
    goal = urlsplit(sent_on.headers["Location"])
    assert goal.path == "/hub/spawn/erin"
    (then,) = parse_qs(goal.query)["next"]
    assert then.startswith("/user/erin/af/arrive?key=")
    for wrong, told in (
        ({"choice": "far/huge"}, "class huge asked; far offers you small"),
        ({"choice": "far/small", "argv": "sh"}, "there is no such option"),
        ({"choice": "far/small", "environment": "nothing"}, "environment nothing asked"),
    ):
        status, said = problem(erin.go_on(key, wrong, where="new"))
        assert status == 409
        assert told in said


def test_beside_a_server_that_runs_a_new_one_has_a_name(alice: Session, bob: Session) -> None:
    key, _ = alice.share()
    sent_on = bob.go_on(key, {"choice": "near/small", "environment": "python"}, where="new")
    goal = urlsplit(sent_on.headers["Location"])
    name = goal.path.removeprefix("/hub/spawn/bob/")
    assert re.fullmatch(r"share-[0-9a-f]{6}", name)
    assert parse_qs(goal.query)["next"][0].startswith(f"/user/bob/{name}/af/arrive?key=")


@pytest.mark.parametrize(
    ("more", "status", "told"),
    [
        ({"content": b"x" * (MIB + 1)}, 413, "more than 1.0 MiB sent; one link may hold 1 MiB"),
        ({"snapshot": {"files": 11}}, 413, "11 files sent; one link may hold 10"),
        ({"snapshot": {"name": "../a"}}, 400, "snapshot.name: a file's plain name is wanted"),
        ({"lifetime_min": 9999}, 400, "9999 minutes asked; a link is good for at most 2880"),
        ({"about": {"snapshot": None}}, 400, "snapshot"),
        ({"ran_in": {"environment": "python", "title": "x"}}, 400, "ran_in: Extra inputs"),
    ],
)
def test_what_is_not_taken(bob: Session, more: dict[str, Any], status: int, told: str) -> None:
    """With the request, the limit and the cure; nothing of it stays."""
    shares = bob.portal.portal.shares
    assert shares is not None
    before = sorted(shares.settings.folder.glob("*"))
    answer = bob.send(**more)
    assert (answer.status_code, told in answer.text) == (status, True), answer.text
    assert sorted(shares.settings.folder.glob("*")) == before
    assert listed(bob) == []


def test_a_renewed_link_leads_to_the_newer_version(alice: Session, carol: Session) -> None:
    key, told = alice.share()
    at = f"/af/shares/{told['id']}"
    assert carol.send(at).status_code == 404
    renewed = alice.send(at, b"newer")
    assert renewed.json()["version"] == 2
    assert 'data-af-version="2"' in carol.look(key).text


def test_the_list(alice: Session, portal: RunningPortal) -> None:
    """One's own with who opened them; revoked by a click. Everybody's is for operators."""
    _, told = alice.share()
    at = f"{portal.hub.url}/hub/af/shares"
    page = alice.browser.get(at, timeout=60)
    assert f'data-af-share="{told["id"]}" data-af-over=""' in page.text
    fields = {"id": told["id"], "_xsrf": alice.browser.cookies["_xsrf"]}
    page = alice.browser.post(at, fields, timeout=60)
    assert f'data-af-share="{told["id"]}" data-af-over="revoked"' in page.text
    fields["id"] = "0" * 16
    assert alice.browser.post(at, fields, timeout=60).status_code == 404
    assert alice.browser.get(f"{at}/all", timeout=60).status_code == 403


def test_while_its_database_is_away(
    alice: Session,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Said so, with what to do, and no link is written into the log."""
    from afportal.share.settings import ShareSettings
    from afportal.share.store import Shares

    key, _ = alice.share()
    nowhere = ShareSettings(database=f"sqlite:///{tmp_path}/none/x.sqlite", folder=tmp_path)
    monkeypatch.setattr(alice.portal.portal, "shares", Shares(nowhere))
    page = alice.look(key)
    assert page.status_code == 503
    assert "share links cannot be reached at this moment" in words(page.text)
    assert alice.ask("GET", "/af/shares").status_code == 503
    assert "503 /hub/af/share" in caplog.text
    assert key not in caplog.text


def test_who_is_deleted_has_no_links(portal: RunningPortal, carol: Session) -> None:
    gone = running(portal, "gone")
    key, _ = gone.share()
    portal.hub.database(lambda db: db.query(orm.Server).filter_by(base_url="/user/gone/").delete())
    assert carol.look(key).status_code == 200
    assert portal.ask("DELETE", "/users/gone").status_code == 204
    assert "This link has been revoked" in problem(carol.look(key))[1]
