"""A site file that is wrong says all that is wrong, and one that is right reads back."""

from pathlib import Path

import pytest

from testbed.errors import UsageError
from testbed.site import Backend, Hub, Person, Site, load_site, parse_site, write_site

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
    assert site.hub_url() == "https://hub.example.org"
    assert site.hub_url("second") == "https://second.example.org:8443"
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
    [("person", "alcie", "alice"), ("backend", "slurm", "htcondor"), ("hub_url", "x", "second")],
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
        front_door="http://127.0.0.1:8000",
        needs=("faults", "students"),
        hubs=(Hub(name="hub"),),
        backends={
            "htcondor": Backend(options={"class": "reserved", "cores": 2}),
            "local": Backend(),
        },
        users=(Person(name="alice", password_file=Path("s/alice"), uid=1, groups=("a", "b")),),
    )
    write_site(site, tmp_path / "site.toml")
    assert load_site(tmp_path / "site.toml").model_dump() == site.model_dump()
