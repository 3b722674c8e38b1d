"""Data as a notebook has them: through the cache, with a token that is renewed, and with reasons.

Everything here runs in the notebook environment of a compute node, with what a session sets:
BEARER_TOKEN_FILE, X509_CERT_FILE, XCACHE_HOST.
"""

import json
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from testbed import data_notebooks, flawed_tokens, notebooks
from testbed.bed import Bed
from testbed.data_client import DataClient, Records, file_at_origin, is_hit, is_miss, origin_killed
from testbed.secret import Secret

pytestmark = [pytest.mark.needs("data", "faults", "front_door"), pytest.mark.timeout(400)]

MET = "root://xcache//data/cms/met/part-0.root"

# Reasons

READ = """
import sys
import uproot
for handler in (None, uproot.source.xrootd.XRootDSource):
    try:
        uproot.open(sys.argv[1], handler=handler)
    except OSError as error:
        print(error)
    else:
        sys.exit("it was opened")
"""
ROWS = {
    "none": ("BEARER_TOKEN_FILE names", "which does not exist", "stop and start the server"),
    "expired": ("ran out at", "ago)", "stop and start the server"),
    "unknown issuer": ("https://issuer.invalid", "none that the facility takes"),
    "wrong key": ("not signed with that issuer's key",),
    "no audience": ("names no audience",),
    "another audience": ("is made for elsewhere",),
    "another path": ("your token allows storage.read:/open, not /data/cms/met/part-0.root",),
    # Keycloak then names one of its own.
    "no scope": ("your token allows no reading: its scope is 'openid'",),
    "no subject": ("lacks sub",),
    "no version": ("lacks wlcg.ver",),
}


def expect_reason(client: DataClient, url: str, *words: str, **environment: str) -> None:
    """uproot, by both of its ways, and xrdcp are refused with a sentence that holds the words."""
    done = client.python(READ, url, environment=environment)
    assert done.ok, done.stderr[-1000:]
    seen = [line for line in done.stdout.splitlines() if "(XRootD: " in line]
    assert len(seen) == 2, done.stdout
    copied = client.copy_as_people_do(url, **environment)
    assert not copied.ok
    for said in (*seen, copied.words):
        assert [word for word in words if word not in said] == [], said


@pytest.mark.parametrize("flaw", ROWS)
def test_a_flaw_of_a_token_is_named(
    flawed: dict[str, Callable[[], Secret | None]], alice_reads: DataClient, flaw: str
) -> None:
    """Whoever is refused reads in the notebook what is wrong with the token, and what to do."""
    token = flawed[flaw]()
    alice_reads.keep_token(token)
    expect_reason(alice_reads, MET, *ROWS[flaw])


def test_a_token_file_that_others_may_read_is_named(
    flawed: dict[str, Callable[[], Secret | None]], alice_reads: DataClient
) -> None:
    """The client refuses it without a word; the notebook says which file, and the command."""
    alice_reads.keep_token(flawed["none: good"](), mode=0o644)
    token = f"{alice_reads.folder}/token"
    expect_reason(alice_reads, MET, f"token file {token} has mode 0644", f"chmod 600 {token}")
    alice_reads.run(["chmod", "000", token])
    expect_reason(alice_reads, MET, f"token file {token} cannot be read: Permission denied")


NOWHERE = {"X509_CERT_FILE": "/nowhere/ca.pem"}
PUBLIC = {"X509_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt"}


@pytest.mark.parametrize(
    ("url", "environment", "words"),
    [
        (MET, NOWHERE, "X509_CERT_FILE names /nowhere/ca.pem, which does not exist"),
        (MET, PUBLIC, "not signed by an authority in /etc/ssl/certs/ca-certificates.crt"),
        ("root://xcache//data/cms/none.root", {}, "there is no file /data/cms/none.root"),
        ("root://xcache//data/cms/met", {}, "/data/cms/met is a folder"),
        ("root://xcahce//data/cms/none.root", {}, "there is no server 'xcahce'"),
        ("root://xcache:9//data/cms/none.root", {}, "does not answer"),
    ],
)
def test_what_is_not_the_tokens_fault_is_named(
    alice_reads: DataClient, url: str, environment: Mapping[str, str], words: str
) -> None:
    """A missing authority, a wrong name and a dead server are told apart."""
    expect_reason(alice_reads, url, words, **environment)


def test_an_origin_that_is_away_is_named(bed: Bed, alice_reads: DataClient) -> None:
    """Within half a minute; and what the cache holds is still read."""
    assert alice_reads.copy_as_people_do(MET).ok
    with (
        file_at_origin(bed, f"{uuid.uuid4().hex}.bin", 1) as (path, _),
        origin_killed(bed),
    ):
        expect_reason(alice_reads, f"root://xcache/{path}", "could not get it from its origin")
        assert alice_reads.copy_as_people_do(MET).ok


# The far origin

READ_EVERY_WAY = """
import sys, time
import fsspec, uproot
from XRootD import client
url = sys.argv[1]
with uproot.open(url + ":Events") as tree:
    assert tree.num_entries == 250_000
with fsspec.open(url) as file:
    assert file.read(4) == b"root"
file = client.File()
assert file.open(url)[0].ok
assert file.read(0, 4)[1] == b"root"
folder, _, name = url.rpartition("/")
assert client.glob(f"{folder}/part-*.root"), "no list of files"
assert url in client.glob(f"{folder}/part-*.root")
"""


def test_a_url_of_the_origin_is_read_through_the_cache(bed: Bed, alice_reads: DataClient) -> None:
    """By one setting: uproot, fsspec, the client itself and xrdcp read what the cache has."""
    path = "/data/cms/met/part-6.root"
    filling = Records(bed)
    assert alice_reads.copy_as_people_do(f"root://xcache/{path}").ok
    filling.of(path)  # a record comes up to 5 s late: what follows must not share it
    records = Records(bed)
    done = alice_reads.python(READ_EVERY_WAY, f"root://origin/{path}")
    assert done.ok, done.stderr[-1500:]
    assert alice_reads.copy_as_people_do(f"root://origin/{path}").ok
    # One or more: who reads while another does shares a record.
    read = records.of(path)
    assert all(is_hit(record) for record in read), read
    with origin_killed(bed):
        assert alice_reads.copy_as_people_do(f"root://origin/{path}").ok


def test_the_first_read_of_an_origins_url_fills_the_cache(
    bed: Bed, alice_reads: DataClient
) -> None:
    """And the next one by the cache's own name is a hit: a file has one name there."""
    with file_at_origin(bed, f"{uuid.uuid4().hex}.bin", 4) as (path, _):
        records = Records(bed)
        reads = (("origin", is_miss), ("xcache", is_hit))
        for number, (server, is_right) in enumerate(reads, start=1):
            assert alice_reads.copy_as_people_do(f"root://{server}/{path}").ok
            last = records.of(path, number)[-1]
            assert is_right(last), last


# Notebooks

DATA_NOTEBOOKS = Path(__file__).parent / "notebooks" / "data"


def test_two_million_events(bed: Bed, alice_reads: DataClient, run_folder: Path) -> None:
    """The MET notebook counts every event of the data set, bin by bin, through the cache."""
    notebook = notebooks.read(DATA_NOTEBOOKS / "met.ipynb")
    records = Records(bed)
    seen = data_notebooks.run(notebook, alice_reads, copy=run_folder / "met.ipynb")
    manifest = json.loads(bed.exec("origin", ["cat", flawed_tokens.PATH]).stdout)
    assert seen["met"] == manifest["met_histogram"]["counts"]
    assert seen["counts"] == manifest["counts"]
    assert seen["counts"]["events"] == 2_000_000
    assert seen["chunks"] >= 40
    assert seen["bytes_read"] >= 60e6
    given = 0
    for part in range(8):
        path = f"/data/cms/met/part-{part}.root"
        given += sum(record["b_hit"] + record["b_miss"] for record in records.of(path))
    assert given >= 60e6, "the cache gave less than the notebook says that it read"


def test_every_way_to_read_in_a_notebook(alice_reads: DataClient, run_folder: Path) -> None:
    """uproot, coffea, fsspec, xrdcp; the origin's URL; real NanoAOD; a refusal with its reason."""
    notebook = notebooks.read(DATA_NOTEBOOKS / "root_urls.ipynb")
    data_notebooks.run(notebook, alice_reads, copy=run_folder / "root_urls.ipynb")
