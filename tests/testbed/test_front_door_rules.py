"""The front door's rules on what comes in, tried as text; scenarios try them on Apache itself."""

import re
from pathlib import Path

import pytest

CONFIG = Path(__file__).resolve().parents[2] / "compose/proxy/config"


def rules() -> tuple[re.Pattern[str], list[re.Pattern[str]]]:
    """What a request line must look like, and what it must not contain."""
    text = (CONFIG / "requests.conf").read_text()
    for name, value in re.findall(r'^Define (\w+) "(.*)"$', text, re.MULTILINE):
        text = text.replace(f"${{{name}}}", value)
    found = re.findall(r'^\s*RewriteCond %\{THE_REQUEST\} "(!?)(.*?)"', text, re.MULTILINE)
    wanted = [re.compile(pattern) for no, pattern in found if no]
    assert len(wanted) == 1
    return wanted[0], [re.compile(pattern) for no, pattern in found if not no]


def is_taken(path: str) -> bool:
    line = f"GET {path} HTTP/1.1"
    wanted, unwanted = rules()
    return bool(wanted.search(line)) and not any(rule.search(line) for rule in unwanted)


@pytest.mark.parametrize(
    "path",
    [
        "/", "/htc/hub/spawn?next=%2Fhtc%2F..//x", "/htc/user/alice/lab/tree/a%20b/%C3%A9.ipynb",
        "/htc/user/alice/files/.hidden/..name/x..y", "/htc/user/alice/api/contents/a%2Fb%25%3F.txt",
        "/htc/user/alice/lab/api/settings/@jupyterlab/apputils-extension:themes",
        "/htc/user/alice/files/%E2%82%AC%F0%9F%98%80;v=1",
    ],
)  # fmt: skip
def test_what_browsers_and_jupyterlab_send_is_taken(path: str) -> None:
    assert is_taken(path)


@pytest.mark.parametrize(
    "path",
    [
        "//htc/hub/", "/htc//hub/", "/htc/./hub/", "/htc/user/../hub/", "/htc/user/..", "/htc/.",
        "/htc/user/%2e%2e/hub/", "/htc/user/.%2E/hub/", "/htc/user/..%2fhub/", "/htc%2f..%2fx",
        "/htc/user/..;/hub/", "/htc/user/\\..\\hub", "/htc/user/%5c..", "/htc/%00", "/htc/%0d%0a",
        "/htc/%zz", "/htc/%", "/htc/%ff", "/htc/%c0%ae%c0%ae/", "/htc/user/a%2f/hub", "/htc/#x",
        "https://hubs.af.localhost/htc/", "*", "/htc/user/%2fhub",
    ],
)  # fmt: skip
def test_what_can_be_read_in_two_ways_is_refused(path: str) -> None:
    """The class that Apache sees is the class that the hub sees."""
    assert not is_taken(path)


@pytest.mark.parametrize(
    "header",
    [
        "X-Remote-User", "x_remote-user", "X.REMOTE.USER", "Remote_User", "X-Proxy-Secret",
        "x-proxy_secret", "X_Access_Token", "OIDC_CLAIM_sub", "oidc-access-token",
        "X-Forwarded-User", "X_Forwarded_For", "Forwarded", "X-Auth-Request-Email", "X-Scheme",
        "Proxy", "X-AF-Instance",
    ],
)  # fmt: skip
def test_every_spelling_of_an_identity_is_dropped(header: str) -> None:
    assert drops(header)


@pytest.mark.parametrize(
    "header",
    ["Authorization", "Cookie", "X-XSRFToken", "X-Requested-With", "Sec-WebSocket-Protocol",
     "Origin", "If-None-Match", "Content-Type", "X-Dask-Token-Free"],
)  # fmt: skip
def test_what_servers_need_comes_through(header: str) -> None:
    assert not drops(header)


def drops(header: str) -> bool:
    """Whether drop_headers.lua drops it: its patterns are read as regular expressions."""
    script = (CONFIG / "drop_headers.lua").read_text()
    table = script[script.index("IDENTITY = {") : script.index("local HOP")]
    plain = re.sub(r"[^a-z0-9]+", "-", header.lower())
    return any(re.search(p.replace("%-", "-"), plain) for p in re.findall(r'"(\^[^"]+)"', table))
