"""Commands about people: who can log in, and the whole log-in."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from testbed.cli.output import Json, Project, answer, table
from testbed.errors import UsageError
from testbed.progress import say

if TYPE_CHECKING:
    from testbed.bed import Bed
    from testbed.site import Person, Site

SiteFile = Annotated[
    Path | None, typer.Option("--site", help="Site file of the facility (default: the testbed's).")
]


def users(
    person: Annotated[str | None, typer.Argument(help="Only this one.")] = None,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """Who can log in: password, and the code of the second factor that is good right now.

    All of it is made on this machine. With --json the files that hold secrets are named, not
    the secrets.
    """
    from testbed.bed import Bed
    from testbed.site import load_site

    bed = Bed.open(project)
    site = load_site(bed.settings.site_file)
    chosen = [site.person(person)] if person else list(site.users)
    if not as_json:
        rows = []
        for each in chosen:
            secret = site.secret(each, bed.settings.environ)
            code, good_for = _code(bed, site, each)
            rows.append(
                (each.name, str(each.uid or ""), ", ".join(each.groups), secret, code, good_for)
            )
        table(("person", "uid", "groups", "password or token", "code", "good for"), rows)
    answer(
        as_json,
        figures={"users": len(chosen)},
        users=[
            p.model_dump(mode="json", exclude_none=True)
            | {"enrolled": site.totp(p, bed.settings.environ) is not None}
            for p in chosen
        ],
        folder=str(bed.settings.state_dir),
    )


def login(
    person: Annotated[str, typer.Argument(help="Who; testbed users lists them.")],
    hub: Annotated[str | None, typer.Option(help="At which hub (default: the first).")] = None,
    jar: Annotated[
        Path | None,
        typer.Option(help="Where the cookies go (default: .testbed/cookies/PERSON-HUB.txt)."),
    ] = None,
    token: Annotated[
        bool, typer.Option("--token", help="Make an API token and print it, instead of cookies.")
    ] = False,
    site_file: SiteFile = None,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """Log a person in by plain HTTP, second factor and all, and say how curl goes on.

    Gives a cookie file of mode 0600 for what a browser does, or with --token an API token for
    the API door: alone on stdout, so that a shell can take it.
    """
    from testbed import cookie_jar, entry
    from testbed.bed import Bed
    from testbed.site import load_site

    if token and jar:
        raise UsageError("--jar and --token are two ways", cure="leave one out")
    bed = Bed.open(project)
    site = load_site(site_file or bed.settings.site_file)
    who = site.person(person)
    if who.logs_in_by == "token":
        raise UsageError(
            f"{person} has a token already and logs in nowhere", cure=f"testbed users {person}"
        )
    at = site.hub(hub) if hub else site.hubs[0]
    browser = entry.enter(site, at, who, bed.settings.environ)
    if token:
        client = entry.client(site, at, who, browser)
        use = ["-H", "Authorization: token TOKEN"]
        say(f"{person} at {at.name}; use it so: {_curl(site, use, client.url + '/hub/api/user')}")
        if not as_json:
            print(client.token)
        return answer(as_json, person=person, hub=at.name, token=client.token, url=client.url)
    path = jar or site.folder / "cookies" / f"{person}-{at.name}.txt"
    cookie_jar.write(iter(browser.cookies), path)
    url = site.entry_url(at) + "/hub/home"
    use = ["-b", str(path), "-c", str(path)]
    if not as_json:
        print(f"{person} is logged in at {at.name}; cookies: {path}")
        print(f"  {_curl(site, use, url)}")
    return answer(as_json, person=person, hub=at.name, jar=str(path), url=url)


def _code(bed: "Bed", site: "Site", person: "Person") -> tuple[str, str]:
    """The code to type now and for how long, or why there is none."""
    from testbed import entry

    if person.logs_in_by == "token":
        return "", ""
    if person.role == "federated":
        return "", f"through {person.provider}"
    seed = site.totp(person, bed.settings.environ)
    if seed is None:
        return "", "enrols at first login" if site.login.kind == "keycloak" else ""
    code, good_for_s = entry.used_codes(site).present(person.name, seed)
    return code, f"{good_for_s:.0f} s"


def _curl(site: "Site", more: list[str], url: str) -> str:
    """A curl command line that works in any shell on this machine."""
    parts = urlsplit(url)
    argv = ["curl"]
    if site.ca_bundle:
        argv += ["--cacert", str(site.verify)]
    if (parts.hostname or "").endswith(".localhost"):
        # Browsers take such names to the loopback; older curls ask the resolver.
        argv += ["--resolve", f"{parts.hostname}:{parts.port or 443}:127.0.0.1"]
    return shlex.join([*argv, *more, url])
