"""Share links: a colleague gets a copy with what it ran in, and nobody gets anything else."""

from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
from selenium.webdriver import ActionChains

from testbed import faults, loopback, pages
from testbed.bed import Bed
from testbed.browser import Browser
from testbed.guests import Guest
from testbed.hub_client import HubClient
from testbed.kernels import Kernel
from testbed.logins import Logins
from testbed.markup import text_of
from testbed.share_links import Link, Owner, Reader, landed, notebook, outputs, problem
from testbed.site import Site

pytestmark = pytest.mark.needs("front_door", "faults", "htcondor", "slurm", "local")

OWNER, FRIEND, OUTSIDER = "alice", "bob", "carol"  # of cms, of cms, of atlas
# For members of cms.
THEIRS = "cms-coffea-dask"
NUMBER = (
    "import platform; "
    "print('AF', sum(i * i for i in range(1000)), platform.freedesktop_os_release()['VERSION_ID'])"
)
MENU = '.lm-Menu-item[data-command="afportal:share"]'


@pytest.fixture(scope="module")
def owner(logins: Logins) -> Iterator[Owner]:
    """Whose server runs on HTCondor, in an environment for members of cms."""
    client = logins.client(OWNER, "htcondor")
    client.spawn({"backend": "htcondor", "environment": THEIRS})
    made = Owner(client)
    made.folder("work")
    yield made
    client.stop(timeout_s=120)


@pytest.fixture(scope="module")
def friend(site: Site, logins: Logins) -> Iterator[Reader]:
    """A member of cms at the same hub, with a server on the login node."""
    client = logins.client(FRIEND, "htcondor")
    client.spawn({"backend": "local", "environment": "python"})
    yield Reader.at(site, logins, FRIEND, site.hub_for("htcondor"))
    client.stop(timeout_s=120)


@pytest.fixture(scope="module")
def friends_home(logins: Logins, friend: Reader) -> Owner:
    """The friend's home, as their server shows it."""
    return Owner(logins.client(friend.name, "htcondor"))


@pytest.fixture(scope="module")
def outsider(site: Site, logins: Logins) -> Iterator[Reader]:
    """Somebody of atlas at the other hub, with a server on Slurm."""
    client = logins.client(OUTSIDER, "slurm")
    client.spawn({"backend": "slurm", "environment": "python"})
    yield Reader.at(site, logins, OUTSIDER, site.hub_for("slurm"))
    client.stop(timeout_s=120)


@pytest.fixture
def link(owner: Owner) -> Link:
    """A link to a notebook, for everybody."""
    owner.write("work/analysis.ipynb", notebook("6 * 7", "42"))
    return owner.share("work/analysis.ipynb")


def test_a_copy_in_a_running_server(
    owner: Owner, friend: Reader, friends_home: Owner, link: Link
) -> None:
    """With or without outputs, beside what is there already; its owner sees who has one."""
    page = friend.open(link.url)
    assert page.url.startswith(f"{friend.url}/hub/af/share?")
    told = text_of(page.text)
    for words in ("analysis.ipynb", "alice shares this notebook", "COFFEA-DASK", "version 1"):
        assert words in told, told
    first = landed(friend.fetch(link.key))
    assert first.startswith("shared/analysis"), first
    assert outputs(friends_home.read(first)) == ["42"]
    second = landed(friend.fetch(link.key, outputs="clear"))
    assert second != first
    assert outputs(friends_home.read(second)) == []
    assert owner.uses(link) == {("bob", "looked", 1), ("bob", "opened", 1)}
    # A name that is taken: what was there is as it was.
    assert outputs(friends_home.read(first)) == ["42"]


def test_a_newer_version_lies_beside_the_first(
    owner: Owner, friend: Reader, friends_home: Owner, link: Link
) -> None:
    """The same link after its owner refreshed it; nbdime shows what differs."""
    first = landed(friend.fetch(link.key))
    owner.write("work/analysis.ipynb", notebook("7 * 7", "49"))
    assert owner.refresh(link, "work/analysis.ipynb") == 2
    assert 'data-af-opened="1"' in friend.look(link.key).text
    arrived = friend.fetch(link.key)
    assert "Version 2 of analysis.ipynb lies beside yours" in text_of(arrived.text)
    assert outputs(friends_home.read("shared/analysis-v2.ipynb")) == ["49"]
    assert outputs(friends_home.read(first)) == ["42"]
    server = f"{friend.url}/user/{friend.name}"
    compared = friend.open(f"{server}/af/compare?base={first}&remote=shared/analysis-v2.ipynb")
    assert "/nbdime/difftool?" in compared.url
    assert compared.status_code == 200
    friends_home.delete("shared/analysis-v2.ipynb")


def test_at_another_hub_in_another_environment(
    owner: Owner, outsider: Reader, logins: Logins, link: Link
) -> None:
    """A link of `htc` opens on `hpc`; who may not have its environment is told the nearest."""
    page = outsider.open(link.url)
    assert page.url.startswith(f"{outsider.url}/hub/af/share?"), "its reader's server is there"
    assert "data-af-nearest=" in page.text
    told = text_of(page.text)
    assert "COFFEA-DASK" in told
    assert "is not offered to you at this hub. The nearest that is:" in told
    home = Owner(logins.client(OUTSIDER, "slurm"))
    assert outputs(home.read(landed(outsider.fetch(link.key)))) == ["42"]
    assert ("carol", "opened", 1) in owner.uses(link)


def test_a_folder_comes_with_its_data_and_nothing_else(
    owner: Owner, friend: Reader, friends_home: Owner
) -> None:
    """No hidden file, and nothing behind a link, wherever that leads."""
    owner.folder("work/set")
    owner.write("work/set/plot.ipynb", notebook("1", "1"))
    owner.write("work/set/events.csv", "1,2\n")
    with Kernel.start(owner.client) as kernel:
        kernel.run(
            "import os\nos.chdir(os.path.expanduser('~/work'))\n"
            "for name, goal in (('set/passwd', '/etc/passwd'), ('set/up', '..'), "
            "('out.ipynb', '/etc/passwd')):\n"
            "    os.path.lexists(name) or os.symlink(goal, name)\n"
            "open('set/.env', 'w').write('secret')\n"
            "open('binary.ipynb', 'wb').write(b'\\x7fELF\\x00')\n"
            "os.makedirs('large', exist_ok=True)\n"
            "with open('large/data', 'wb') as file: file.truncate(200 * 2**20)\n"
        )
    for path, told in (
        ("work/binary.ipynb", "it is no notebook: its content is not JSON. Open it in JupyterLab"),
        ("work/out.ipynb", "it is, or lies behind, a link"),
        ("work/set/up", "it is, or lies behind, a link"),
        ("work/../../bob", "cannot be shared"),
        (".ssh", "cannot be shared"),
        ("work/large", "with data it is 200.0 MiB or more; 100.0 MiB may be sent"),
    ):
        assert told in owner.refused(path)
    link = owner.share("work/set", audience={"kind": "groups", "names": ["cms"]})
    assert "3 entries were left out" in text_of(friend.look(link.key).text)
    where = landed(friend.fetch(link.key))
    assert {item["name"] for item in friends_home.read(where)} == {"plot.ipynb", "events.csv"}
    assert friends_home.read(f"{where}/events.csv") == "1,2\n"


def test_it_outlives_the_owners_file(owner: Owner, friend: Reader, friends_home: Owner) -> None:
    """Changed, then deleted: the link gives what was saved when it was made."""
    owner.write("work/gone.ipynb", notebook("1", "then"))
    link = owner.share("work/gone.ipynb")
    owner.write("work/gone.ipynb", notebook("2", "now"))
    assert outputs(friends_home.read(landed(friend.fetch(link.key)))) == ["then"]
    owner.delete("work/gone.ipynb")
    assert outputs(friends_home.read(landed(friend.fetch(link.key)))) == ["then"]


def test_who_is_not_meant_and_what_has_ended(
    bed: Bed, owner: Owner, friend: Reader, outsider: Reader, link: Link
) -> None:
    """A page says what is wrong and what to do; no copy is made."""
    private = owner.share("work/analysis.ipynb", audience={"kind": "groups", "names": ["cms"]})
    told = problem(outsider.look(private.key))
    assert "alice made it for members of cms; you are carol" in told
    assert "analysis" not in told
    assert "alice made it" in problem(outsider.fetch(private.key))
    assert owner.uses(private) == {("carol", "refused", 1)}
    named = owner.share("work/analysis.ipynb", audience={"kind": "people", "names": [OUTSIDER]})
    assert "This link is not for you" in problem(friend.look(named.key))
    assert outsider.look(named.key).status_code == 200

    owner.revoke(private)
    told = problem(friend.look(private.key))
    assert "This link has been revoked" in told
    assert "Ask alice for a new one" in told
    in_database(bed, "update af_shares set expires_s = 1 where id = ?", link.share)
    assert "This link has expired" in problem(friend.fetch(link.key))
    for mangled in (link.key[:-1], link.key + "x", ""):
        assert "no whole share link" in problem(friend.look(mangled))


def in_database(bed: Bed, statement: str, *values: str) -> None:
    """Change what the hubs keep of links, as time would."""
    done = bed.exec(
        "hub-htc-1",
        [
            "/opt/hub/bin/python", "-c",
            "import sqlite3, sys\n"
            "with sqlite3.connect('/srv/shares/shares.sqlite', timeout=30) as database:\n"
            "    database.execute(sys.argv[1], sys.argv[2:])",
            statement, *values,
        ],
        user="hub",
    )  # fmt: skip
    assert done.ok, done.stderr


def test_a_full_home_is_told_and_has_nothing_half(
    bed: Bed, owner: Owner, friend: Reader, friends_home: Owner
) -> None:
    """The folder of copies lies on a file system of 64 KiB; with room the same link opens."""
    owner.write("work/large.ipynb", notebook("1", "x" * 300_000))
    link = owner.share("work/large.ipynb")
    with faults.small_folder(bed, f"/home/{FRIEND}/shared", owner=FRIEND):
        told = problem(friend.fetch(link.key))
        assert "Your home has no room for large.ipynb: 0.3 MiB are needed" in told
        assert "Nothing was left there: make room, and open the link again" in told
        assert friends_home.read("shared") == []
        hidden = bed.exec("login-node", ["ls", "-A", "/run/small-home"], user="root")
        assert hidden.stdout == ""
    assert landed(friend.fetch(link.key)).startswith("shared/large")


def test_operators_see_who_opened_what(
    friend: Reader, site: Site, logins: Logins, link: Link
) -> None:
    """Everybody's links with their uses, on a page that opens none of them."""
    landed(friend.fetch(link.key))
    heidi = Reader.at(site, logins, "heidi", site.hub_for("htcondor"))
    page = heidi.open(f"{heidi.url}/hub/af/shares/all")
    assert page.status_code == 200
    assert f'data-af-share="{link.share}"' in page.text
    assert "bob fetched a copy, version 1" in text_of(page.text)
    assert link.key not in page.text
    assert friend.open(f"{friend.url}/hub/af/shares/all").status_code == 403


@pytest.fixture
def guesser(bed: Bed, come_in: Callable[..., Guest]) -> Guest:
    """Somebody who has guessed no link so far."""
    guest = come_in()
    in_database(bed, "delete from af_share_guesses where person = ?", guest.person.name)
    return guest


def guess(guest: Guest, number: int) -> int:
    """The status of a link that somebody made up."""
    return guest.get(f"/hub/af/share?key={number:032d}", follow=True).status_code


def test_who_guesses_is_stopped(guesser: Guest, link: Link) -> None:
    """After ten links that are none: 429, for good ones too, and at every hub."""
    guest = guesser
    assert [guess(guest, number) for number in range(12)] == [404] * 10 + [429] * 2
    good = guest.get(f"/hub/af/share?key={link.key}", follow=True)
    assert good.status_code == 429
    assert "you can open links again in" in problem(good)
    other = guest.browser.get(f"{link.url.partition('/-/')[0]}/hpc/hub/af/share?key={link.key}")
    assert other.status_code == 429


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_thousand_guesses_find_nothing(guesser: Guest) -> None:
    """Ten are answered that there is none, the others not at all."""
    answers = [guess(guesser, number) for number in range(1000)]
    assert answers == [404] * 10 + [429] * 990


def test_nobody_gets_anything_without_a_login(site: Site, link: Link) -> None:
    """A stranger's browser is sent to the login page by every route; a script hears 401."""
    stranger = loopback.session(site.verify)
    htc = site.entry_url(site.hub_for("htcondor"))
    for url in (
        link.url,
        f"{htc}/hub/af/share?key={link.key}",
        f"{htc}/hub/af/shares",
        f"{htc}/user/{OWNER}/af/arrive?key={link.key}",
        f"{htc}/user/{OWNER}/af/compare?base=a&remote=b",
    ):
        answer = stranger.get(url, timeout=60)
        assert answer.url.startswith("https://login."), (url, answer.url)
        assert "analysis" not in answer.text
        assert stranger.post(url, allow_redirects=False, timeout=60).status_code in (401, 403), url
    for path in ("shares", "share-arrivals", "share-arrivals/content"):
        inside = stranger.get(f"{htc}/hub/api/af/{path}", allow_redirects=False, timeout=60)
        assert inside.status_code in (401, 404), path


# In two browsers


@pytest.mark.timeout(300)
def test_two_people_in_two_browsers(
    site: Site,
    logins: Logins,
    chromium: Callable[[str], Browser],
    stopped_after: Callable[..., HubClient],
) -> None:
    """Shared by a right click, opened in a new server of the same container, the same number.

    The owner's server has ended by then, and their notebook is deleted.
    """
    hub = site.hub_for("htcondor")
    client = stopped_after(logins.client("erin", hub=hub))
    client.spawn({"backend": "htcondor", "environment": "astro"})
    owner = Owner(client)
    with Kernel.start(client) as kernel:
        number = kernel.run(NUMBER).stdout
    owner.folder("work")
    owner.write("work/sum.ipynb", notebook(NUMBER, number))

    erin = chromium("owner")
    pages.open_lab(erin, site, hub, "erin")
    erin.open(f"{site.entry_url(hub)}/user/erin/lab/tree/work?reset")
    pages.wait_for_lab(erin, site.entry_url(hub))
    url = copy_share_link(erin)
    owner.delete("work/sum.ipynb")
    client.stop(timeout_s=120)

    home = Owner(stopped_after(logins.client("frank", hub=hub)))
    frank = chromium("reader")
    frank.open(url)
    pages.log_in(frank, site, "frank")
    frank.see("[data-af-share]")
    frank.picture("what-it-is")
    told = frank.text
    for words in ("sum.ipynb", "erin shares this notebook", "General purpose notebook", "KiB"):
        assert words in told, told
    assert "debian-12" in told
    frank.leave('[data-af-outputs="clear"]')
    frank.see('[data-af-outputs="keep"]')
    frank.leave("[data-af-new]")
    frank.until(
        lambda: "/lab/tree/shared/sum" in frank.url and pages.notebook_in_front(frank, "sum"),
        "the copy, open in JupyterLab",
        90,
    )
    frank.picture("opened")
    path = urlsplit(frank.url).path.partition("/lab/tree/")[2]
    assert outputs(home.read(path)) == [], "they were to be cleared"
    assert pages.run_open_cell(frank).strip() == number.strip()
    frank.picture("run")


def copy_share_link(browser: Browser) -> str:
    """Right-click the notebook that is listed, and make a link with what is proposed."""
    item = '.jp-DirListing-item[data-file-type="notebook"]'

    def menu() -> bool:
        ActionChains(browser.driver).context_click(browser.see(item)).perform()
        return browser.shows(MENU)

    browser.until(menu, "the entry of the menu", 60)
    browser.picture("menu")
    browser.click(MENU)
    browser.see(".af-ShareForm .af-Share-lifetime")
    browser.picture("how-long-for-whom")
    browser.click(".jp-Dialog .jp-mod-accept")
    url = browser.see(".af-Share-url").get_attribute("value")
    browser.picture("link")
    browser.click(".jp-Dialog .jp-mod-accept")
    browser.click('.jp-SideBar [data-id="af-share-panel"]')
    browser.see("#af-share-panel .af-Share-link")
    browser.picture("panel")
    assert url
    return url
