"""TLS inside: nothing in clear, who reaches a person's server, who made which certificate.

Asked from inside the facility: from services' own containers, and from a person's node.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

from testbed.bed import Bed
from testbed.hub_client import HubClient, Spawn
from testbed.kernels import Kernel
from testbed.logins import Visitor
from testbed.promises import expect_within
from testbed.sessions import Session
from testbed.site import Site

pytestmark = pytest.mark.needs("faults", "front_door")

# Prints how one request went: the status, or in one word what came in its place.
ASK = """
import http.client, json, ssl, sys
scheme, host, port, own = json.loads(sys.argv[1])
try:
    if scheme == "http":
        line = http.client.HTTPConnection(host, port, timeout=20)
    else:
        context = ssl._create_unverified_context()
        if own:
            context.load_cert_chain(*own)
        line = http.client.HTTPSConnection(host, port, timeout=20, context=context)
    line.request("GET", "/")
    print(line.getresponse().status)
except ssl.SSLError:
    print("tls")
except (ConnectionError, http.client.BadStatusLine):
    print("closed")
except PermissionError:
    print("unreadable")
"""
# A server that refuses a certificate closes at once: its alert may or may not come first.
NOT_LET_IN = ("tls", "closed")
# Prints the certificate that a service shows, after a handshake that had it checked by name.
SHOW = """
import socket, ssl, sys
host, port = sys.argv[1], int(sys.argv[2])
context = ssl.create_default_context(cafile="/keys/inside-tls/ca.pem")
with context.wrap_socket(socket.create_connection((host, port), 10), server_hostname=host) as line:
    print(ssl.DER_cert_to_PEM_cert(line.getpeercert(True)))
"""
# Speaks one request slowly, while others end their connections right after the handshake; prints
# the status, or "closed". To end there leaves the peer with an error of its operating system.
SLOWLY = """
import socket, ssl, sys
address, others = (sys.argv[1], int(sys.argv[2])), int(sys.argv[3])
context = ssl._create_unverified_context()
def connect():
    line = context.wrap_socket(socket.create_connection(address, 20))
    line.settimeout(20)
    return line
line = connect()
line.send(b"GET /hub/api/ HTTP/1.1\\r\\nHost: hub\\r\\nX-Slowly: ")
try:
    for _ in range(others):
        connect().close()
        line.send(b"a")
    line.send(b"\\r\\n\\r\\n")
    print(line.recv(100).split()[1].decode())
except (OSError, IndexError):
    print("closed")
"""
# A kernel tells where its server listens, and where its certificate is.
OWN = """
import json, os
with open(os.environ["AF_SECRETS"] + "/tls/server.pem") as file:
    certificate = file.read()
# Where the node itself has it, if the job has it under a name of its own.
behind = os.environ.get("_CONDOR_SCRATCH_DIR", "") + os.environ["AF_SECRETS"]
folder = behind if os.path.isdir(behind) else os.environ["AF_SECRETS"]
print(json.dumps([os.environ["JUPYTERHUB_SERVICE_URL"], folder, certificate]))
"""


def asked(
    bed: Bed,
    service: str,
    address: tuple[str, int],
    *,
    scheme: str = "https",
    own: tuple[str, str] | None = None,
    user: str | None = None,
    index: int = 1,
) -> str:
    """How a request from a service's container goes; `own` is certificate and key to show."""
    done = bed.exec(
        service,
        ["python3", "-c", ASK, json.dumps([scheme, *address, own])],
        user=user,
        index=index,
    )
    assert done.ok, done.stderr
    return done.stdout.strip()


def issuer_and_names(pem: str) -> tuple[str, set[str]]:
    """Who signed a certificate, and for what."""
    made = x509.load_pem_x509_certificate(pem.encode())
    issuer = str(made.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return issuer, {str(name.value) for name in names}


def instances(site: Site) -> Iterator[str]:
    """Every hub instance."""
    for hub in site.hubs:
        yield from hub.instances


def listeners(site: Site) -> Iterator[tuple[str, int]]:
    """What listens inside for the portal, and has something to hide."""
    for instance in instances(site):
        yield from ((f"hub-{instance}", 8081), (f"chp-{instance}", 8000), (f"chp-{instance}", 8001))
    yield from (("front", 8080), ("condor-ap", 9700), ("slurmctld", 9700), ("login-node", 9710))


def test_nothing_is_said_in_clear(bed: Bed, site: Site) -> None:
    """Hubs, their proxies, the front and the signed services answer no plain HTTP."""
    answers = {where: asked(bed, "front", where, scheme="http") for where in listeners(site)}
    assert set(answers.values()) == {"closed"}, answers


def test_each_service_shows_its_own_name(bed: Bed, site: Site) -> None:
    """Services' certificates are of the inside authority, each for the service's name alone."""
    for host, port in listeners(site):
        done = bed.exec("front", ["python3", "-c", SHOW, host, str(port)])
        assert done.ok, (host, done.stderr)
        issuer, names = issuer_and_names(done.stdout)
        assert issuer.startswith("Testbed inside authority"), host
        instance = host.partition("-")[2]
        cell = {f"hub-{instance}", f"chp-{instance}"}
        assert names == (cell if host in cell else {host})


def test_a_broken_connection_breaks_no_other(bed: Bed, site: Site) -> None:
    """Callers that end at once, as killed jobs and health checks do, cost nobody an answer."""
    for host, port in [*(("hub-" + each, 8081) for each in instances(site)), ("front", 8080)]:
        done = bed.exec("front", ["python3", "-c", SLOWLY, host, str(port), "60"])
        assert done.ok, (host, done.stderr)
        assert done.stdout.strip().isdigit(), host


# A person's server


@dataclass(frozen=True)
class Server:
    """A person's server as it is on its node."""

    client: HubClient
    service: str
    index: int
    address: tuple[str, int]
    secrets: str
    certificate: str


@pytest.fixture
def server(running: Session) -> Server:
    """Alice's running server on a batch backend."""
    url, secrets, certificate = json.loads(running.kernel.run(OWN).stdout)
    node = running.kernel.run("import socket; socket.gethostname()").value.strip("'")
    service, _, number = node.rpartition("-")
    _, names = issuer_and_names(certificate)
    (host,) = names
    port = urlsplit(url).port
    assert port is not None
    return Server(running.client, service, int(number), (host, port), secrets, certificate)


def test_a_server_is_certified_by_its_cell(server: Server) -> None:
    """Its certificate is of its own cell's authority, for the address of its node."""
    issuer, names = issuer_and_names(server.certificate)
    assert issuer.startswith(f"Authority of cell {server.client.instance} ")
    assert len(names) == 1


def test_nobody_but_the_cell_reaches_a_server(bed: Bed, site: Site, server: Server) -> None:
    """Hub and proxy of the cell are answered. Another person on the same node, another service,
    another cell, and whoever shows a server's own certificate are not let in by TLS."""
    own = ("/keys/cell/client/tls.pem", "/keys/cell/client/tls.key")
    for role in ("hub", "chp"):
        seen = asked(bed, f"{role}-{server.client.instance}", server.address, own=own, user="hub")
        assert seen.isdigit(), f"{role}: {seen}"

    bob = site.person("bob")
    near = {"user": f"{bob.uid}:{bob.gid}", "index": server.index}
    assert asked(bed, server.service, server.address, **near) in NOT_LET_IN
    assert asked(bed, server.service, server.address, scheme="http", **near) == "closed"
    stolen = (f"{server.secrets}/tls/server.pem", f"{server.secrets}/tls/server.key")
    assert asked(bed, server.service, server.address, own=stolen, **near) == "unreadable"
    root = {"user": "root", "index": server.index}
    assert asked(bed, server.service, server.address, own=stolen, **root) in NOT_LET_IN

    assert asked(bed, "front", server.address) in NOT_LET_IN
    service = ("/keys/tls-front/tls.pem", "/keys/tls-front/tls.key")
    assert asked(bed, "front", server.address, own=service) in NOT_LET_IN
    other = next(name for name in instances(site) if name != server.client.instance)
    assert asked(bed, f"hub-{other}", server.address, own=own, user="hub") in NOT_LET_IN


def test_no_key_is_told(bed: Bed, running: Session) -> None:
    """No private key is in a job ad, a service's environment or a log."""
    assert running.job.job_id
    texts = {
        "job ads": bed.exec("condor-ap-hub", ["condor_q", "-allusers", "-long"]).stdout,
        "Slurm's jobs": bed.exec("slurmctld", ["scontrol", "show", "jobs", "--details"]).stdout,
    }
    for service in bed.services():
        if bed.health(service).ok:
            texts[f"log of {service}"] = bed.logs(service)
            attributes = bed.container(service).attrs
            texts[f"settings of {service}"] = json.dumps(attributes["Config"])
    assert [where for where, text in texts.items() if "PRIVATE KEY" in text] == []


# Renewal


@pytest.mark.needs("htcondor")
@pytest.mark.timeout(300)
def test_a_certificate_is_renewed_while_people_work(
    bed: Bed, alice: Visitor, spawn: Callable[..., Spawn]
) -> None:
    """`testbed restart keys` makes what is missing or nearly over; hub and proxy of the instance
    take it by themselves, and a kernel behind them keeps its state."""
    client = alice.on("htcondor")
    spawn(client, "htcondor")
    hub, chp = f"hub-{client.instance}", f"chp-{client.instance}"
    ports = ((hub, 8081), (chp, 8000), (chp, 8001))

    def serials() -> set[int]:
        shown = [
            bed.exec("front", ["python3", "-c", SHOW, host, str(port)]) for host, port in ports
        ]
        return {
            x509.load_pem_x509_certificate(done.stdout.encode()).serial_number if done.ok else 0
            for done in shown
        }

    with Kernel.start(client) as kernel:
        kernel.run("remembered = 41")
        before = serials()
        assert len(before) == 1
        _remove_certificate(bed, client.instance)
        bed.restart("keys")
        expect_within(
            90,
            lambda: len(now := serials()) == 1 and 0 not in now and now != before,
            what=f"{hub} and {chp} show one new certificate",
            poll_s=2,
        )
        assert kernel.run("remembered + 1", timeout_s=30).value == "42"
    bed.wait_healthy(hub)


def _remove_certificate(bed: Bed, instance: str) -> None:
    """Take an instance's certificate away, as nothing of the facility can."""
    testcontainers_config.ryuk_disabled = True
    container = DockerContainer(
        f"{bed.settings.images}/keys",
        command="tail -f /dev/null",
        labels={"org.af-testbed": "1"},
        volumes=[(f"{bed.project}_key-cell-{instance}", "/cell", "rw")],
    )
    with container:
        done = container.exec(["rm", "/cell/tls.pem"])
        assert done.exit_code == 0, done.output
