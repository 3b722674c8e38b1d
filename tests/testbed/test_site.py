"""A site file that is wrong says all that is wrong, and one that is right reads back."""

from pathlib import Path

import pytest

from testbed.errors import UsageError
from testbed.secret import Secret
from testbed.site import Backend, Hub, Login, Person, Site, load_site, parse_site, write_site

GOOD = """
name = "lab"
front_door = "https://hub.example.org"
needs = ["metrics"]

[[hubs]]
name = "hub"

[[hubs]]
name = "second"
url = "https://second.example.org:8443"

[backends.htcondor]
options = { class = "reserved", cores = 2 }
[backends.local]

[[users]]
name = "alice"
password_file = "secrets/alice"
uid = 20001
groups = ["cms"]

[[users]]
name = "watcher"
role = "observer"
token_env = "WATCHER"
"""


def site_in(folder: Path, text: str = GOOD) -> Site:
    path = folder / "site.toml"
    path.write_text(text)
    return load_site(path)


def errors_of(text: str) -> str:
    with pytest.raises(UsageError) as raised:
        parse_site(text, Path("site.toml"))
    return str(raised.value)


def test_hubs_backends_and_people(tmp_path: Path) -> None:
    site = site_in(tmp_path)
    first, second = site.hubs
    assert site.entry_url(first) == site.api_url(first) == "https://hub.example.org"
    assert site.entry_url(site.hub("second")) == "https://second.example.org:8443"
    assert site.api_url(second) == "https://second.example.org:8443"
    assert site.backend("htcondor").options == {"class": "reserved", "cores": 2}
    assert [person.name for person in site.people()] == ["alice"]
    assert [person.name for person in site.people("observer")] == ["watcher"]
    assert site.meets("metrics")
    assert site.meets("local")
    assert not site.meets("slurm")


def test_all_errors_are_reported_at_once() -> None:
    message = errors_of(
        """
        name = "lab"
        front_door = "http://127.0.0.1:8000/hub"
        needs = ["fault"]
        colour = "blue"
        [[hubs]]
        name = "hub"
        [backends.pbs]
        [[users]]
        name = "alice"
        password = "swordfish"
        [[users]]
        name = "Bob"
        uid = "many"
        password_file = "x"
        token_env = "y"
        """
    )
    for part in (
        "front_door: give scheme, host and port only",
        "colour: unknown field",
        "backends.pbs",
        "users[0].password: no secrets in a site file",
        "password_file",
        "users[1].name",
        "users[1].uid",
    ):
        assert part in message
    assert "swordfish" not in message
    assert "errors" in message.splitlines()[0]


def test_a_misspelt_need_and_doubles_are_named() -> None:
    text = GOOD.replace('"metrics"', '"metric"') + GOOD[GOOD.index("[[users]]") :]
    message = errors_of(text)
    assert "did you mean 'metrics'?" in message
    assert "users: named more than once: alice, watcher" in message


@pytest.mark.parametrize("sources", ["", 'password_env = "A"\ntoken_env = "B"'])
def test_a_person_has_exactly_one_source_of_a_secret(sources: str) -> None:
    text = GOOD.replace('token_env = "WATCHER"', sources)
    assert "users[1]: name exactly one of password_env" in errors_of(text)


def test_broken_toml_is_named_with_its_line() -> None:
    assert "line 2" in errors_of("name = 'x'\nfront_door = \n")


def test_a_missing_file_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="testbed up"):
        load_site(tmp_path / "none.toml")


def test_secrets_are_read_when_needed(tmp_path: Path) -> None:
    site = site_in(tmp_path)
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "alice").write_text("swordfish\n")
    assert site.secret(site.person("alice"), {}) == "swordfish"
    assert site.secret(site.person("watcher"), {"WATCHER": "t"}) == "t"
    with pytest.raises(UsageError, match="WATCHER is not set"):
        site.secret(site.person("watcher"), {})
    (tmp_path / "secrets" / "alice").write_text("\n")
    with pytest.raises(UsageError, match="empty"):
        site.secret(site.person("alice"), {})


@pytest.mark.parametrize(
    ("kind", "name", "near"),
    [("person", "alcie", "alice"), ("backend", "slurm", "htcondor"), ("hub", "x", "second")],
)
def test_unknown_names_show_what_there_is(tmp_path: Path, kind: str, name: str, near: str) -> None:
    site = site_in(tmp_path)
    with pytest.raises(UsageError) as raised:
        getattr(site, kind)(name)
    assert repr(name) in str(raised.value)
    assert near in str(raised.value)


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    site = Site(
        name='a "quoted" name',
        front_door="https://hubs.af.localhost:8443",
        needs=("faults", "students"),
        login=Login(kind="keycloak"),
        hubs=(
            Hub(name="htc", url="https://hubs.af.localhost:8443/htc", instances=("htc-1",)),
            Hub(name="hpc", api_url="https://api.af.localhost:8443/hpc", backends=("local",)),
        ),
        backends={
            "htcondor": Backend(options={"class": "reserved", "cores": 2}),
            "local": Backend(),
        },
        users=(
            Person(
                name="alice",
                password_file=Path("s/alice"),
                totp_file=Path("s/alice.totp"),
                uid=1,
                groups=("a", "b"),
            ),
            Person(name="nora", role="federated", provider="abroad", password_env="NORA"),
        ),
    )
    write_site(site, tmp_path / "site.toml")
    assert load_site(tmp_path / "site.toml").model_dump() == site.model_dump()


BALANCED = """
name = "af"
front_door = "https://hubs.af.localhost:8443"
[login]
kind = "keycloak"
[[hubs]]
name = "htc"
url = "https://hubs.af.localhost:8443/htc/"
api_url = "https://api.af.localhost:8443/htc"
backends = ["htcondor", "local"]
instances = ["htc-1", "htc-2"]
[[hubs]]
name = "hpc"
backends = ["slurm", "local"]
[[hubs]]
name = "all"
[backends.htcondor]
[backends.slurm]
[backends.local]
[[users]]
name = "alice"
password_file = "alice.password"
totp_file = "alice.totp"
[[users]]
name = "bob"
password_file = "bob.password"
"""


def test_each_backend_has_its_hub(tmp_path: Path) -> None:
    """The first hub that offers what is asked; a hub that names no backends offers all."""
    site = site_in(tmp_path, BALANCED)
    assert site.hub_for().name == "htc"
    assert site.hub_for("local").name == "htc"
    assert site.hub_for("slurm").name == "hpc"
    assert site.hub_for("htcondor", "slurm").name == "all"
    assert site.entry_url(site.hubs[0]) == "https://hubs.af.localhost:8443/htc"
    assert site.api_url(site.hubs[0]) == "https://api.af.localhost:8443/htc"
    with pytest.raises(UsageError, match="pbs"):
        site.hub_for("pbs")


def test_routes_take_each_hub_that_adds_something(tmp_path: Path) -> None:
    """A hub with nothing new is left out; one with something new counts with all it offers."""
    site = site_in(tmp_path, BALANCED)
    assert [(hub.name, backend) for hub, backend in site.routes()] == [
        ("htc", "htcondor"),
        ("htc", "local"),
        ("hpc", "slurm"),
        ("hpc", "local"),
    ]


def test_a_second_factor_is_kept_when_somebody_enrols(tmp_path: Path) -> None:
    """A seed file that is not there yet is of somebody who enrols; it is written 0600."""
    site = site_in(tmp_path, BALANCED)
    for name, file in (("alice", "alice.totp"), ("bob", "secrets/bob.totp")):
        person = site.person(name)
        assert site.totp(person, {}) is None
        assert site.keep_totp(person, Secret("JBSWY3DPEHPK3PXP")) == tmp_path / file
        assert (tmp_path / file).stat().st_mode & 0o777 == 0o600
        assert site.totp(person, {}) == "JBSWY3DPEHPK3PXP"


def test_wrong_hubs_and_log_ins_are_all_named() -> None:
    text = BALANCED.replace('backends = ["slurm", "local"]', 'backends = ["pbs"]')
    assert "hubs[1].backends[0]" in errors_of(text)
    text = BALANCED.replace('[[hubs]]\nname = "all"\n', "").replace(
        'backends = ["slurm", "local"]', 'backends = ["local"]'
    )
    assert "backends.slurm: no hub offers it" in errors_of(text)
    text = BALANCED.replace("[backends.slurm]\n", "").replace("keycloak", "form")
    message = errors_of(text)
    assert "hubs: hpc offers slurm, which is not among the backends" in message
    assert "users: alice: a second factor needs [login]" in message
    text = BALANCED.replace(
        'api_url = "https://api.af.localhost:8443/htc"', 'api_url = "https://x/htc/hub"'
    )
    assert "hubs[0].api_url: give the hub's base path at most" in errors_of(text)
    text = BALANCED.replace('totp_file = "alice.totp"', 'totp = "JBSW"\nprovider = "abroad"')
    message = errors_of(text)
    assert "users[0].totp: no secrets in a site file" in message
    assert "JBSW" not in message
    assert "login.kind" in errors_of(BALANCED.replace('"keycloak"', '"saml"'))


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ('token_env = "T"\ntotp_env = "S"', "a token needs no second factor"),
        ('password_env = "P"\ntotp_env = "S"\ntotp_file = "s"', "name one of totp_env, totp_file"),
        ('password_env = "P"\nprovider = "abroad"', "provider go together"),
        ('password_env = "P"\nrole = "federated"', "provider go together"),
    ],
)
def test_what_does_not_go_together_is_refused(fields: str, word: str) -> None:
    text = BALANCED.replace('password_file = "bob.password"', fields)
    assert word in errors_of(text)
