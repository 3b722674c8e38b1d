"""What cannot be measured is said before anybody logs in."""

from pathlib import Path

import pytest

from testbed import bench_login
from testbed.errors import UsageError
from testbed.site import parse_site

SITE = """
name = "lab"
front_door = "https://hubs.example.org"
[login]
kind = "keycloak"
[[hubs]]
name = "hub"
[backends.local]
[[users]]
name = "alice"
password_env = "ALICE"
totp_env = "TOTP"
[[users]]
name = "ivan"
password_env = "IVAN"
totp_file = "none.totp"
"""
ENVIRON = {"TOTP": "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"}


def test_too_few_people_are_counted(tmp_path: Path) -> None:
    """Who is not enrolled yet does not count: enrolling takes longer than logging in."""
    site = parse_site(SITE, tmp_path / "site.toml")
    with pytest.raises(UsageError, match="2 enrolled people are needed: lab has 1"):
        bench_login.run(site, environ=ENVIRON, folder=tmp_path, bed=None, people=2)


def test_a_plain_form_is_not_measured(tmp_path: Path) -> None:
    text = SITE.replace("keycloak", "form").replace('totp_env = "TOTP"', "")
    site = parse_site(text.replace('totp_file = "none.totp"', ""), tmp_path / "site.toml")
    with pytest.raises(UsageError, match="no front door with Keycloak"):
        bench_login.run(site, environ=ENVIRON, folder=tmp_path, bed=None)
