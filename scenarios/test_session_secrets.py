"""A session has its person's secrets, from its start to its end, and they are renewed."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from testbed import entry, faults
from testbed.bed import Bed
from testbed.guests import Guest
from testbed.hub_client import HubClient, Spawn
from testbed.kernels import Kernel
from testbed.logins import Logins, Visitor
from testbed.promises import expect_within
from testbed.site import Site

pytestmark = pytest.mark.needs("data", "faults", "front_door")

FILES = {
    "jupyterhub_token",
    "condor/tokens.d/portal",
    "slurm/token",
    "data/token",
    "data/ca.pem",
    "tls/hub-authority.pem",
    "tls/client-authority.pem",
    "tls/server.pem",
    "tls/server.key",
    "dask/ca.pem",
    *(
        f"dask/{role}.{kind}"
        for role in ("scheduler", "worker", "client")
        for kind in ("pem", "key")
    ),
    # No secrets: the facility's environments and kernels, which come by the same way.
    "environments.json",
    *(f"share/jupyter/kernels/{name}/kernel.json" for name in ("experiment", "neutrino")),
}
# Every regular file of the private folder with its mode and owner, and the variables that name any.
LOOK = """
import json, os, stat
folder = os.environ["AF_SECRETS"]
found = {}
for where, _, names in os.walk(folder):
    for name in names:
        path = os.path.join(where, name)
        seen = os.lstat(path)
        if stat.S_ISREG(seen.st_mode):
            found[os.path.relpath(path, folder)] = [oct(seen.st_mode & 0o777), seen.st_uid]
named = {name: value for name, value in os.environ.items() if value.startswith(folder + "/")}
top = os.stat(folder)
print(json.dumps({"folder": folder, "mode": oct(top.st_mode & 0o777), "files": found,
                  "named": named, "uid": os.getuid(), "xcache": os.environ.get("XCACHE_HOST")}))
"""
READ = """
import subprocess
done = subprocess.run(["xrdcp", "-f", "--silent", "root://xcache//data/cms/met/manifest.json", "-"],
                      capture_output=True, text=True)
print(done.returncode, done.stdout[:1], done.stderr)
"""
# How the server reaches this kernel, and the Unix sockets in the private folder.
CHANNELS = """
import glob, json, os
from ipykernel import get_connection_file
with open(get_connection_file()) as file:
    told = json.load(file)
ours = told["ip"].startswith(os.environ["AF_SECRETS"] + "/")
print(json.dumps([told["transport"], ours, len(glob.glob(told["ip"] + "-*"))]))
"""
TOKEN = """
import base64, json, os
with open(os.environ["BEARER_TOKEN_FILE"]) as file:
    part = file.read().split(".")[1]
print(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)).decode())
"""


@pytest.fixture
def session(
    alice: Visitor, spawn: Callable[..., Spawn]
) -> Iterator[Callable[[str], tuple[HubClient, Kernel]]]:
    """session(backend): alice's server with a data token, and a kernel in it."""
    kernels: list[Kernel] = []

    def begin(backend: str) -> tuple[HubClient, Kernel]:
        client = alice.fetch_data_token(backend)
        spawn(client, backend)
        kernels.append(Kernel.start(client))
        return client, kernels[-1]

    yield begin
    for kernel in kernels:
        kernel.shut_down()


def token_of(kernel: Kernel) -> dict[str, Any]:
    """The claims of the data token that a session has now."""
    claims: dict[str, Any] = json.loads(kernel.run(TOKEN).stdout)
    return claims


# Beside the file that is opened anew a URL with a user of its own, whose connection is left alone
# and so stays with the first token.
OPEN = """
import uproot
from XRootD import client
part = PART
with uproot.open(f"root://xcache//data/cms/met/part-{part}.root:Events") as tree:
    first = tree["event"].array(library="np", entry_stop=10)
print(list(first) == list(range(part * 250_000, part * 250_000 + 10)))
print(client.File().open(f"root://pinned@xcache//data/cms/met/part-{part}.root")[0].ok)
"""
SHORT_S, PROMISED_S = 60, 300


@dataclass
class Looks:
    """What was seen in one session, look by look: the token's claims, and what was read."""

    claims: list[dict[str, Any]] = field(default_factory=list)
    at_s: list[float] = field(default_factory=list)
    read: list[str] = field(default_factory=list)
    left_alone: list[str] = field(default_factory=list)


def look_for_five_minutes(kernel: Kernel) -> Looks:
    """A session of five minutes is what is promised; between two looks it is left alone."""
    begun, looks = time.monotonic(), Looks()
    while time.monotonic() - begun < PROMISED_S:
        looks.claims.append(token_of(kernel))
        looks.at_s.append(time.time())
        code = OPEN.replace("PART", str(len(looks.claims) % 8))
        read, left_alone = kernel.run(code, timeout_s=120).stdout.split()
        looks.read.append(read)
        looks.left_alone.append(left_alone)
        kernel.receive(15)  # what is told of what was run; pings are answered
    return looks


@pytest.fixture
def five_minutes(bed: Bed, site: Site, logins: Logins) -> Iterator[Looks]:
    """Five minutes of somebody's session with data tokens of 60 s."""
    visitor = Visitor("bob", logins)
    client = visitor.on("htcondor")
    name = f"data-{client.instance}"

    def live(seconds: int) -> None:
        done = bed.exec("keycloak", ["keycloak-ctl", "token-life", name, str(seconds)], user="root")
        assert done.ok, done.stderr

    with contextlib.ExitStack() as stack:
        live(SHORT_S)
        stack.callback(live, 1200)
        visitor.fetch_data_token("htcondor")
        stack.callback(client.stop, timeout_s=120)
        client.spawn({"backend": "htcondor", **site.backend("htcondor").options})
        kernel = stack.enter_context(Kernel.start(client))
        yield look_for_five_minutes(kernel)


def test_a_session_has_every_secret_and_nobody_else(
    session: Callable[[str], tuple[HubClient, Kernel]], backend: str
) -> None:
    """Wherever it runs: all of them, 0600 in a folder of 0700, named by the usual variables."""
    client, kernel = session(backend)
    seen = json.loads(kernel.run(LOOK).stdout)
    given = {name for name in seen["files"] if not name.startswith("jupyter/")}
    assert given - {f"run/bt_u{seen['uid']}"} == FILES
    assert f"run/bt_u{seen['uid']}" in seen["files"]
    assert {mode for mode, _ in seen["files"].values()} == {"0o600"}
    assert {uid for _, uid in seen["files"].values()} == {seen["uid"]}
    assert seen["mode"] == "0o700"
    named = {name: path.removeprefix(seen["folder"] + "/") for name, path in seen["named"].items()}
    assert named["BEARER_TOKEN_FILE"] == "data/token"
    assert named["X509_CERT_FILE"] == "data/ca.pem"
    assert named["XDG_RUNTIME_DIR"] == "run"
    assert named["JUPYTER_PATH"] == "share/jupyter"
    assert named["_CONDOR_SEC_TOKEN_DIRECTORY"] == "condor/tokens.d"
    assert named["DASK_DISTRIBUTED__COMM__TLS__WORKER__KEY"] == "dask/worker.key"
    assert seen["xcache"] == "xcache"
    assert client.spawn_account()["missing"] == {}
    # And they open what they are for.
    assert kernel.run(READ).stdout.split()[:2] == ["0", "{"]


def test_nobody_else_can_listen_to_a_kernel(
    session: Callable[[str], tuple[HubClient, Kernel]], backend: str
) -> None:
    """Its channels are sockets in the private folder, not ports of a machine that many share."""
    _, kernel = session(backend)
    assert json.loads(kernel.run(CHANNELS).stdout) == ["ipc", True, 5]


@pytest.mark.needs("htcondor")
def test_coffea_casas_folder_is_the_jobs_own(
    session: Callable[[str], tuple[HubClient, Kernel]], bed: Bed
) -> None:
    """Under coffea-casa's names and in its folder, which no other process of the node sees."""
    _, kernel = session("htcondor")
    seen = json.loads(
        kernel.run("""
import json, os
folder = "/etc/cmsaf-secrets"
names = ("bearer_token", "condor_token", "ca.pem", "hostcert.pem", "usercert.pem", "xcache_token")
print(json.dumps([os.environ["AF_SECRETS"],
                  {name: len(open(f"{folder}/{name}").read()) for name in names}]))
""").stdout
    )
    assert seen[0] == "/etc/cmsaf-secrets"
    assert all(seen[1].values())
    for index in range(1, len(bed.containers("condor-ep")) + 1):
        done = bed.exec("condor-ep", ["ls", "/etc/cmsaf-secrets"], user="root", index=index)
        assert (done.ok, done.stdout) == (True, "")


def test_secrets_vanish_with_the_job(
    session: Callable[[str], tuple[HubClient, Kernel]], bed: Bed, backend: str
) -> None:
    """Also when the server is killed by force, and can clear nothing away itself."""
    _, kernel = session(backend)
    service = {"htcondor": "condor-ep", "slurm": "slurm-node", "local": "login-node"}[backend]

    def left() -> list[str]:
        found = []
        for index in range(1, len(bed.containers(service)) + 1):
            places = ["/tmp", "/run", "/var/lib/condor", "/var/spool", "/etc/cmsaf-secrets"]
            argv = ["find", *places, "-name", "jupyterhub_token", "-user", "alice"]
            found += bed.exec(service, argv, user="root", index=index).stdout.splitlines()
        return found

    assert left()
    kernel.ask_to_run("import os, signal; os.kill(os.getppid(), signal.SIGKILL)")
    expect_within(60, lambda: not left(), what=f"no secret of alice's left on {service}")


@pytest.mark.needs("slurm")
def test_the_slurm_token_is_the_persons(session: Callable[[str], tuple[HubClient, Kernel]]) -> None:
    """slurmrestd takes the session's token as its person's, and shows that person's jobs."""
    _, kernel = session("slurm")
    seen = kernel.run("""
import json, os, urllib.request
token = open(os.environ["AF_SECRETS"] + "/slurm/token").read().strip()
request = urllib.request.Request("http://slurmrestd:6820/slurm/v0.0.42/jobs",
    headers={"X-SLURM-USER-NAME": os.environ["USER"], "X-SLURM-USER-TOKEN": token})
jobs = json.load(urllib.request.urlopen(request, timeout=30))["jobs"]
print({job["user_id"] for job in jobs} == {os.getuid()})
""").stdout
    assert seen.strip() == "True"


def test_dasks_certificates_make_a_cluster_of_this_sessions_own(
    session: Callable[[str], tuple[HubClient, Kernel]],
) -> None:
    """With them a client works on a TLS cluster; without them, or with others, it is refused."""
    _, kernel = session("local")
    seen = kernel.run(
        """
import os, socket, ssl
from distributed import Client, LocalCluster
from distributed.security import Security
security = Security(require_encryption=True)
with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, security=security,
                  protocol="tls", host="127.0.0.1", dashboard_address=None) as cluster:
    with Client(cluster, security=security) as client:
        print("sum", client.submit(sum, [1, 2, 3]).result(timeout=60))
    host, port = cluster.scheduler_address.removeprefix("tls://").split(":")
    context = ssl.create_default_context(cafile=os.environ["AF_SECRETS"] + "/dask/ca.pem")
    context.check_hostname = False
    try:
        with socket.create_connection((host, int(port)), 30) as plain:
            with context.wrap_socket(plain) as stranger:
                print("a stranger gets", stranger.recv(1))
    except ssl.SSLError as error:
        print("refused", error.reason)
""",
        timeout_s=120,
    ).stdout
    assert "sum 6" in seen
    assert "CERTIFICATE_REQUIRED" in seen


def test_a_script_without_a_data_token_is_told(alice: Visitor, spawn: Callable[..., Spawn]) -> None:
    """Without a browser on the way the server starts, its record says what is missing and how to
    get it; once it was fetched, the running session has it."""
    client = alice.fetch_data_token("local")
    spawn(client, "local")
    client.stop()  # with the last server the offline token went
    spawn(client, "local")
    told = client.spawn_account()["missing"]["data"]
    assert "no data token was fetched for alice" in told
    assert "data-token" in told
    with Kernel.start(client) as kernel:
        assert kernel.run(
            "import os; print(open(os.environ['AF_SECRETS'] + '/problems').read())"
        ).stdout.startswith("data: no data token")
        alice.fetch_data_token("local")
        renew(client)
        assert client.spawn_account()["missing"] == {}
        assert "storage.read:/cms" in token_of(kernel)["scope"]


def renew(client: HubClient) -> dict[str, Any]:
    """Have a session renew its secrets now, as its owner may."""
    answer = client.request("POST", f"{client.server_path()}/api/af/secrets")
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def offline_sessions(
    keycloak_admin: Callable[..., list[dict[str, Any]]], client: HubClient
) -> list[dict[str, Any]]:
    """The offline sessions that a hub instance has at Keycloak for a person."""
    named = f"data-{client.instance}"
    return [each for each in keycloak_admin("offline", client.user) if each["client"] == named]


def test_the_offline_token_lives_as_long_as_the_last_server(
    site: Site,
    come_in: Callable[..., Guest],
    keycloak_admin: Callable[..., list[dict[str, Any]]],
    stopped_after: Callable[[HubClient, str], None],
) -> None:
    """Two servers, Log Out: it renews on; with the second server's end Keycloak has it no more."""
    guest = come_in()
    client = entry.client(site, guest.hub, guest.person, guest.browser)
    entry.fetch_data_token(site, guest.hub, guest.browser)
    for name in ("", "second"):
        stopped_after(client, name)
        client.spawn({"backend": "local"}, name)
    assert offline_sessions(keycloak_admin, client)
    guest.browser.get(f"{site.front_door}logout", timeout=60)
    client.stop()
    assert offline_sessions(keycloak_admin, client)
    answer = client.request("POST", f"{client.server_path('second')}/api/af/secrets")
    assert (answer.status_code, answer.json()["missing"]) == (200, {})
    client.stop("second")
    expect_within(
        30,
        lambda: not offline_sessions(keycloak_admin, client),
        what="no offline session at Keycloak",
    )


def test_log_out_without_a_server_ends_the_offline_token(
    site: Site,
    come_in: Callable[..., Guest],
    keycloak_admin: Callable[..., list[dict[str, Any]]],
) -> None:
    """What was fetched and never used is not kept beyond the log-out."""
    guest = come_in()
    client = entry.client(site, guest.hub, guest.person, guest.browser)
    entry.fetch_data_token(site, guest.hub, guest.browser)
    assert offline_sessions(keycloak_admin, client)
    guest.browser.get(f"{site.front_door}logout", timeout=60)
    expect_within(
        30,
        lambda: not offline_sessions(keycloak_admin, client),
        what="no offline session at Keycloak",
    )


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.needs("htcondor")
def test_tokens_of_a_minute_over_five_minutes(five_minutes: Looks) -> None:
    """The session renewed its token in time, over and over, and what one kernel opened was read.

    A token is bound to the connection that it opened, so that without `afportal.xcache` it is
    not: the connection that is left alone is refused after a minute.
    """
    looks = five_minutes
    assert len({claims["exp"] for claims in looks.claims}) >= 6
    for claims, at_s in zip(looks.claims, looks.at_s, strict=True):
        assert claims["exp"] - claims["iat"] <= SHORT_S
        assert claims["exp"] > at_s, "an expired token lay in the session"
    assert set(looks.read) == {"True"}
    assert looks.left_alone[0] == "True"
    assert looks.left_alone[-1] == "False", (
        "a connection is no longer bound to its token: drop the cure"
    )


@pytest.mark.needs("htcondor")
def test_renewal_outlives_hub_and_keycloak(
    session: Callable[[str], tuple[HubClient, Kernel]], bed: Bed
) -> None:
    """While Keycloak is away the session keeps what it has; a hub that was killed renews again."""
    client, kernel = session("htcondor")
    before = token_of(kernel)
    with faults.stop(bed, "keycloak"):
        assert renew(client)["missing"] == {}
        assert token_of(kernel)["exp"] == before["exp"]
    with faults.kill(bed, f"hub-{client.instance}"):
        assert token_of(kernel)["exp"] == before["exp"]
    # The hub's next process knows no token of before, and has Keycloak make one.
    expect_within(120, lambda: renewed(client), what="the session renews its secrets")
    assert token_of(kernel)["exp"] > before["exp"]
    assert kernel.run(READ).stdout.split()[:2] == ["0", "{"]


def renewed(client: HubClient) -> bool:
    """Whether a session's secrets are renewed now."""
    answer = client.request("POST", f"{client.server_path()}/api/af/secrets")
    return answer.status_code == 200 and answer.json()["missing"] == {}


def test_the_way_to_a_data_token_takes_no_forged_answer(guest: Guest) -> None:
    """An answer that this browser did not ask for, and a next page elsewhere, lead nowhere."""
    url = f"{guest.url}/hub/data-token"
    forged = guest.browser.get(f"{url}?state=x&code=y", timeout=60)
    assert forged.status_code == 400
    assert "start anew" in forged.text
    led = guest.browser.get(f"{url}?next=https://elsewhere.invalid/", timeout=60)
    assert led.url.startswith(guest.url)
    asked = guest.browser.get(url, timeout=60, allow_redirects=False)
    assert asked.status_code == 302
    for parameter in ("state=x&code=y", "state=x&error=access_denied"):
        assert guest.browser.get(f"{url}?{parameter}", timeout=60).status_code == 400
