"""The front: who is believed, where people are sent, what the pages say."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPRequest, HTTPResponse
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPHeaders
from tornado.testing import bind_unused_port
from tornado.web import Application, RequestHandler

from afportal.front import ctl
from afportal.front.app import make_app, make_templates
from afportal.front.cells import Cells
from afportal.front.choice import Instance, choose
from afportal.front.handlers import Front
from afportal.front.identity import person_of
from afportal.front.next_page import next_page
from afportal.front.page import read_page
from afportal.front.state import State
from afportal.front.watched import Watched
from afportal.hubs import read_hubs

ROOT = Path(__file__).resolve().parents[2]
SECRET = "5" * 64
HUBS_URL = "https://hubs.af.localhost:8443"
HELP_URL = "https://help.af.localhost:8443"
HUBS = """
hubs:
  htc: {title: HTC, backends: [htcondor, local], instances: 2, login: header}
  hpc: {title: HPC, backends: [slurm, local], instances: 2, login: header}
  oauth: {title: Test hub, backends: [local], instances: 1, login: keycloak}
"""
PEOPLE = [f"person{number}" for number in range(200)]


def instances(*names: str, dead: str = "", drained: str = "") -> list[Instance]:
    return [
        Instance(name, alive=name not in dead.split(), drained=name in drained.split())
        for name in names
    ]


def test_two_browsers_of_a_person_meet() -> None:
    """The choice depends on the person and the instances alone, not on their order."""
    for person in PEOPLE:
        there = choose(person, instances("htc-1", "htc-2"))
        assert there == choose(person, instances("htc-2", "htc-1"))


def test_people_are_spread() -> None:
    chosen = [choose(person, instances("htc-1", "htc-2")) for person in PEOPLE]
    assert 70 < chosen.count("htc-1") < 130


def test_when_an_instance_is_added_most_people_stay() -> None:
    """Nobody moves from one old instance to another old one."""
    for person in PEOPLE:
        before = choose(person, instances("htc-1", "htc-2"))
        after = choose(person, instances("htc-1", "htc-2", "htc-3"))
        assert after in (before, "htc-3")


def test_a_person_goes_where_their_servers_run() -> None:
    """Even when that instance is drained: their session stays."""
    for name in ("htc-1", "htc-2"):
        found = [
            Instance(i, alive=True, drained=True, servers={"": "/x"} if i == name else {})
            for i in ("htc-1", "htc-2")
        ]
        assert choose("alice", found) == name


def test_nobody_new_goes_to_a_dead_or_drained_instance() -> None:
    for person in PEOPLE:
        assert choose(person, instances("htc-1", "htc-2", dead="htc-1")) == "htc-2"
        assert choose(person, instances("htc-1", "htc-2", drained="htc-1")) == "htc-2"
        assert choose(person, instances("htc-1", "htc-2"), avoid=["htc-1"]) == "htc-2"


def test_a_drained_instance_is_better_than_none() -> None:
    assert choose("a", instances("htc-1", "htc-2", drained="htc-1", dead="htc-2")) == "htc-1"
    assert choose("a", instances("htc-1", "htc-2", dead="htc-1 htc-2")) is None


@pytest.mark.parametrize(
    "wish",
    ["/htc/hub/", "/htc/hub/spawn?next=%2Fx", "/htc/user/alice/lab/tree/a%20b.ipynb",
     "/htc/user/alice/files/..hidden", "/htc/hub/home#x"],
)  # fmt: skip
def test_a_page_of_the_hub_is_gone_on_to(wish: str) -> None:
    assert next_page("htc", wish) == wish


@pytest.mark.parametrize(
    "wish",
    ["", "/", "/htc", "/htc/", "/hpc/hub/", "//evil.example/htc/hub/", "https://evil.example/",
     "/htc//evil.example", "/htc/../-/oidc?logout=x", "/htc/user/../../logout", "/\\evil.example",
     "/htc/user/\\evil", "/htc/hub/%2e%2e/%2e%2e/logout", "/htc/hub/..%2f..%2flogout",
     "/htc/hub/x\r\nSet-Cookie: a=b", "htc/hub/", "javascript:alert(1)", "/htc/hub/ x",
     "/htc/hub/.."],
)  # fmt: skip
def test_nothing_else_is_gone_on_to(wish: str) -> None:
    """No open redirect, and no way out of the hub's own paths."""
    assert next_page("htc", wish) == "/htc/hub/"


def headers(*pairs: tuple[str, str]) -> HTTPHeaders:
    made = HTTPHeaders()
    for name, value in pairs:
        made.add(name, value)
    return made


def test_the_person_is_believed_with_the_secret_only() -> None:
    user, secret = ("X-Remote-User", "alice"), ("X-Proxy-Secret", SECRET)
    assert person_of(headers(user, secret), SECRET) == "alice"
    assert person_of(headers(user), SECRET) == ""
    assert person_of(headers(secret), SECRET) == ""
    assert person_of(headers(user, ("X-Proxy-Secret", "6" * 64)), SECRET) == ""
    assert person_of(headers(user, ("X-Proxy-Secret", "é")), SECRET) == ""


def test_two_headers_of_a_kind_are_nobody() -> None:
    user, secret = ("X-Remote-User", "alice"), ("X-Proxy-Secret", SECRET)
    assert person_of(headers(user, ("x-remote-user", "bob"), secret), SECRET) == ""
    assert person_of(headers(user, secret, secret), SECRET) == ""


class StandInHub(RequestHandler):
    """What an instance's hub answers to the front."""

    def initialize(self, seen: list[Any], servers: dict[str, Any]) -> None:
        self.seen, self.servers = seen, servers

    def get(self, _hub: str, what: str) -> None:
        assert self.request.headers["Authorization"] == "token front-token"
        if what != "health":
            self.finish({"name": "alice", "servers": self.servers})

    def post(self, hub: str, what: str) -> None:
        assert self.request.headers["Authorization"] == "token front-token"
        self.seen.append((hub, what, json.loads(self.request.body)))


Ask = Callable[..., Awaitable[HTTPResponse]]


@asynccontextmanager
async def running_front(
    folder: Path, *, dead: tuple[str, ...] = (), servers: dict[str, Any] | None = None
) -> AsyncIterator[tuple[Ask, Front, list[Any]]]:
    """The front on a free port, with stand-in hubs; `servers` is instance → servers of alice."""
    seen: list[Any] = []
    ports: dict[str, int] = {}
    stops = []
    (folder / "hubs.yaml").write_text(HUBS)
    hubs = read_hubs(folder / "hubs.yaml")
    for _, name in hubs.instances():
        socket, ports[name] = bind_unused_port()
        if name in dead:
            socket.close()
            continue
        its = {"seen": seen, "servers": (servers or {}).get(name, {})}
        app = Application([(r"/(\w+)/hub/(health|api/.*)", StandInHub, its)])
        http = HTTPServer(app)
        http.add_socket(socket)
        stops.append(http)
    front = Front(
        page=Watched(ROOT / "compose/front/config/front.yaml", read_page),
        hubs=Watched(folder / "hubs.yaml", read_hubs),
        state=State(folder),
        cells=Cells("front-token", lambda name: f"http://127.0.0.1:{ports[name]}"),
        templates=make_templates(),
        proxy_secret=SECRET,
        hubs_url=HUBS_URL,
        help_url=HELP_URL,
        login_url="https://login.af.localhost:8443",
        login_health_url="http://127.0.0.1:9/",
    )
    socket, port = bind_unused_port()
    http = HTTPServer(make_app(front))
    http.add_socket(socket)
    stops.append(http)

    async def ask(path: str, person: str = "", method: str = "GET", **more: Any) -> HTTPResponse:
        sent = HTTPHeaders(more.pop("headers", {}))
        if person:
            sent["X-Remote-User"], sent["X-Proxy-Secret"] = person, SECRET
        request = HTTPRequest(
            f"http://127.0.0.1:{port}{path}", method, sent, follow_redirects=False, **more
        )
        return await AsyncHTTPClient().fetch(request, raise_error=False)

    try:
        yield ask, front, seen
    finally:
        for server in stops:
            server.stop()
            await server.close_all_connections()


def run(test: Callable[[], Any]) -> None:
    asyncio.run(test())


def text(answer: HTTPResponse) -> str:
    return answer.body.decode()


def test_the_landing_page_is_for_everybody(tmp_path: Path) -> None:
    """Hubs, notice, whom to ask; nothing of a person, no script, nothing from elsewhere."""

    async def check() -> None:
        async with running_front(tmp_path) as (ask, _, _):
            page = await ask("/", headers={"X-Remote-User": "mallory"})
            assert page.code == 200
            for word in ("HTC", "HPC", "Test hub", "Notice to users", "Whom to ask"):
                assert word in text(page)
            assert "mallory" not in text(page)
            assert "/logout" not in text(page)
            assert "<script" not in text(page)
            assert "default-src 'none'" in page.headers["Content-Security-Policy"]
            assert "Server" not in page.headers

    run(check)


def test_a_person_sees_name_and_servers(tmp_path: Path) -> None:
    servers = {"htc-2": {"lab": {"ready": True, "url": "/htc/user/alice/lab/"}}}

    async def check() -> None:
        async with running_front(tmp_path, servers=servers) as (ask, _, _):
            page = text(await ask("/", "alice"))
            assert "alice" in page
            assert "/logout" in page
            assert "/-/go/htc?instance=htc-2&amp;next=/htc/user/alice/lab/" in page

    run(check)


def test_an_announcement_is_seen_at_once_and_as_text(tmp_path: Path) -> None:
    """It needs no restart, and cannot bring markup along."""

    async def check() -> None:
        async with running_front(tmp_path) as (ask, front, _):
            assert json.loads((await ask("/-/announcement")).body) == {"announcement": ""}
            front.state.announce("Down on <b>Monday</b>")
            found = json.loads((await ask("/-/announcement")).body)
            assert found == {"announcement": "Down on <b>Monday</b>"}
            assert "Down on &lt;b&gt;Monday" in text(await ask("/"))

    run(check)


def test_go_sets_a_route_and_goes_on(tmp_path: Path) -> None:
    servers = {"hpc-1": {"": {"ready": True, "url": "/hpc/user/alice/"}}}

    async def check() -> None:
        async with running_front(tmp_path, servers=servers) as (ask, front, _):
            gone = await ask("/-/go/hpc?next=%2Fhpc%2Fhub%2Fspawn", "alice")
            assert (gone.code, gone.headers["Location"]) == (302, "/hpc/hub/spawn")
            cookie = gone.headers["Set-Cookie"]
            for part in ("route_hpc=hpc-1;", "Path=/hpc/", "Secure", "HttpOnly", "SameSite=Lax"):
                assert part in cookie
            assert "expires" not in cookie.lower()
            front.state.drain("hpc-1")
            stays = await ask("/-/go/hpc", "alice")
            assert "route_hpc=hpc-1;" in stays.headers["Set-Cookie"]
            front.state.drain("htc-1")
            for person in PEOPLE[:20]:
                gone = await ask("/-/go/htc", person)
                assert "route_htc=htc-2;" in gone.headers["Set-Cookie"]

    run(check)


def test_go_needs_a_person_and_a_hub(tmp_path: Path) -> None:
    async def check() -> None:
        async with running_front(tmp_path) as (ask, _, _):
            assert (await ask("/-/go/htc")).code == 401
            assert (await ask("/-/go/none", "alice")).code == 404
            away = await ask("/-/go/htc?next=https%3A%2F%2Fevil.example", "alice")
            assert away.headers["Location"] == "/htc/hub/"

    run(check)


def test_a_share_link_goes_to_a_hub_that_can_open_it(tmp_path: Path) -> None:
    """Where its reader has a server, else where it was made, and in any case where one answers."""
    key = "k" * 32
    servers = {"hpc-2": {"": {"ready": True, "url": "/hpc/user/alice/"}}}

    async def check() -> None:
        async with running_front(tmp_path) as (ask, _, _):
            for on, goes_to in (("hpc", "hpc"), ("htc", "htc"), ("none", "htc"), ("", "htc")):
                gone = await ask(f"/-/share?on={on}&key={key}", "alice")
                assert gone.code == 302
                assert gone.headers["Location"] == f"/{goes_to}/hub/af/share?key={key}"
            chosen = await ask(f"/-/share?choose=1&key={key}", "alice")
            for hub in ("htc", "hpc", "oauth"):
                assert f'href="/{hub}/hub/af/share?key={key}"' in text(chosen)
            assert (await ask(f"/-/share?key={key}")).code == 401
            for mangled in ("", key[1:], key + "k", key[:-1] + "%22"):
                page = await ask(f"/-/share?on=htc&key={mangled}", "alice")
                assert page.code == 400
                assert "no whole share link" in text(page)
        async with running_front(tmp_path, servers=servers) as (ask, _, _):
            gone = await ask(f"/-/share?on=htc&key={key}", "alice")
            assert gone.headers["Location"] == f"/hpc/hub/af/share?key={key}"
        async with running_front(tmp_path, dead=("htc-1", "htc-2")) as (ask, _, _):
            gone = await ask(f"/-/share?on=htc&key={key}", "alice")
            assert gone.headers["Location"] == f"/hpc/hub/af/share?key={key}"

    run(check)


def test_elsewhere_takes_own_forms_only(tmp_path: Path) -> None:
    async def check() -> None:
        async with running_front(tmp_path) as (ask, _, _):
            form = {"method": "POST", "body": "instance=htc-1"}
            moved = await ask("/-/elsewhere/htc", "alice", **form, headers={"Origin": HUBS_URL})
            assert (moved.code, moved.headers["Location"]) == (303, "/htc/hub/")
            assert "route_htc=htc-2;" in moved.headers["Set-Cookie"]
            for strange in (
                {"Origin": "https://evil.example"},
                {"Origin": "null"},
                {"Sec-Fetch-Site": "cross-site"},
                {"Sec-Fetch-Site": "same-site", "Origin": HUBS_URL},
            ):
                refused = await ask("/-/elsewhere/htc", "alice", **form, headers=strange)
                assert refused.code == 403
            assert (await ask("/-/elsewhere/htc", **form)).code == 401

    run(check)


def test_a_dead_instance_is_told_with_a_way_on(tmp_path: Path) -> None:
    """Which one, that servers are kept, and a form to go on elsewhere."""

    async def check() -> None:
        async with running_front(tmp_path, dead=("htc-1",)) as (ask, _, _):
            page = await ask("/-/unavailable/htc?instance=htc-1")
            assert page.code == 503
            for words in ("htc-1 does not answer", "running servers are kept",
                          'action="/-/elsewhere/htc"'):  # fmt: skip
                assert words in text(page)
            assert "htc-2" in (await ask("/-/go/htc", "alice")).headers["Set-Cookie"]
        async with running_front(tmp_path, dead=("htc-1", "htc-2")) as (ask, _, _):
            page = await ask("/-/unavailable/htc?instance=htc-1")
            assert "elsewhere/htc" not in text(page)
            assert (await ask("/-/go/htc", "alice")).code == 503

    run(check)


def test_when_hubs_answer_the_login_is_to_blame(tmp_path: Path) -> None:
    async def check() -> None:
        async with running_front(tmp_path) as (ask, _, _):
            page = await ask("/-/unavailable/htc?instance=htc-1")
            assert page.code == 503
            assert "Keycloak" in text(page)

    run(check)


def test_log_out_ends_every_hub_and_every_cookie(tmp_path: Path) -> None:
    async def check() -> None:
        async with running_front(tmp_path, dead=("hpc-2",)) as (ask, _, seen):
            done = await ask("/logout", "alice")
            assert done.code == 302
            assert done.headers["Location"] == (
                "/-/oidc?logout=https%3A%2F%2Fhubs.af.localhost%3A8443%2F-%2Flogged-out"
            )
            assert sorted(seen) == sorted(
                (hub, "api/af/end-sessions", {"user": "alice"})
                for hub in ("htc", "htc", "hpc", "oauth")
            )
            cleared = done.headers.get_list("Set-Cookie")
            for start, path in (
                ("route_htc=", "Path=/htc/"),
                ("jupyterhub-hub-login=", "Path=/hpc/hub/"),
                ("jupyterhub-session-id=", "Path=/oauth/"),
                ("jupyterhub-user-alice=", "Path=/htc/user/alice/"),
            ):
                assert [c for c in cleared if c.startswith(start) and path in c]
            out = await ask("/-/logged-out")
            assert out.headers["Clear-Site-Data"] == '"cookies"'

    run(check)


def test_another_site_cannot_log_a_person_out(tmp_path: Path) -> None:
    async def check() -> None:
        async with running_front(tmp_path) as (ask, _, seen):
            for site in ("cross-site", "same-site"):
                asked = await ask("/logout", "alice", headers={"Sec-Fetch-Site": site})
                assert asked.code == 200
                assert "Log out?" in text(asked)
                assert seen == []

    run(check)


def test_hubs_yaml_is_read_again_and_a_mistake_changes_nothing(tmp_path: Path) -> None:
    async def check() -> None:
        async with running_front(tmp_path) as (ask, front, _):
            (tmp_path / "hubs.yaml").write_text(HUBS.replace("title: HPC", "title: Supercomputer"))
            assert front.hubs.get().hub("hpc").title == "Supercomputer"
            (tmp_path / "hubs.yaml").write_text("hubs: {}")
            assert "HTC" in text(await ask("/"))

    run(check)


def test_what_is_drained_is_kept_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "hubs.yaml").write_text(HUBS)
    where = ["--hubs", str(tmp_path / "hubs.yaml"), "--state", str(tmp_path)]
    assert ctl.main([*where, "drain", "htc-2"]) == 0
    assert json.loads(capsys.readouterr().out)["drained"] == ["htc-2"]
    assert ctl.main([*where, "drain", "htc-3"]) == 2
    assert "htc-1, htc-2, hpc-1" in capsys.readouterr().err
    assert ctl.main([*where, "undrain", "htc-2"]) == 0
    assert ctl.main([*where, "announce", "hello"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {
        "announcement": "hello",
        "drained": [],
        "instances": ["htc-1", "htc-2", "hpc-1", "hpc-2", "oauth-1"],
    }


def test_front_yaml_tells_every_mistake(tmp_path: Path) -> None:
    wrong = tmp_path / "front.yaml"
    wrong.write_text("facility: F\ntitel: T\nnotice: [n]\ncontacts: [{about: a}]\n")
    with pytest.raises(ValueError, match=r"front\.yaml") as caught:
        read_page(wrong)
    for place in ("title", "titel", r"contacts.0.who"):
        assert place in str(caught.value)
