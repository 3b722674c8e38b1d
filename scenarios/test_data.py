"""Data: what a token opens, what the cache answers by itself, and what happens without the origin.

All clients run on a compute node, as people's code does, under their own uid.
"""

import concurrent.futures
import contextlib
import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from testbed import data_tokens, extra_cache, faults, flawed_tokens
from testbed.bed import Bed
from testbed.data_client import (
    DataClient,
    Records,
    at_node,
    file_at_origin,
    is_hit,
    is_miss,
)
from testbed.data_tokens import Client
from testbed.extra_cache import ExtraCache
from testbed.promises import expect_within
from testbed.secret import Secret
from testbed.site import Site
from testbed.waiting import wait_until

pytestmark = [pytest.mark.needs("data", "faults", "front_door"), pytest.mark.timeout(400)]


def expect_whole(client: DataClient, url: str, sha256: str, *, timeout_s: float = 120) -> None:
    """A file is read, and holds what it should."""
    seen = client.copy(url, timeout_s=timeout_s)
    assert seen.ok, seen
    assert seen.sha256 == sha256, f"wrong bytes of {url}"


# Room for little: the disk is filled first, and looked at again when there was time to purge

LOW, HIGH = 0.40, 0.80


@dataclass(frozen=True)
class FullDisk:
    """An XCache whose disk of 96 MiB was filled, and is purged to 40 %.

    Args:
        files: Path and SHA-256 of each that was read.
        share_full: Of its disk, when all were read.
    """

    cache: ExtraCache
    files: tuple[tuple[str, str], ...]
    share_full: float


@pytest.fixture(scope="module")
def full_disk(
    bed: Bed, site: Site, data_browser: requests.Session, hubs_client: data_tokens.Client
) -> Iterator[FullDisk]:
    marks = {"AF_XCACHE_DISKUSAGE": f"{LOW} {HIGH}"}
    token = data_tokens.fetch(data_browser, hubs_client, *data_tokens.ALL_SCOPES).access
    with contextlib.ExitStack() as stack:
        cache = stack.enter_context(extra_cache.run(bed, "small", marks, disk_mib=96))
        files = tuple(
            stack.enter_context(file_at_origin(bed, f"{uuid.uuid4().hex}.bin", 60))
            for _ in range(3)
        )
        with at_node(bed, site.person("alice"), token) as alice:
            for path, sha256 in files:
                expect_whole(alice, f"root://{cache.host}/{path}", sha256)
        yield FullDisk(cache, files, cache.share_used)


def test_a_full_disk_gives_the_right_bytes(full_disk: FullDisk) -> None:
    """A cache without room gives what is asked for all the same."""
    assert full_disk.share_full > HIGH, f"the disk was filled to {full_disk.share_full:.0%} only"


# Hit and miss


def test_the_second_read_is_a_hit(
    bed: Bed, alice_reads: DataClient, new_file: Callable[..., tuple[str, str]]
) -> None:
    """The first read comes from the origin, the second from the cache, with the same bytes."""
    path, sha256 = new_file(20)
    records = Records(bed)
    for number, is_right in enumerate((is_miss, is_hit), start=1):
        expect_whole(alice_reads, f"root://xcache/{path}", sha256)
        # Waited for each time: a read that begins before the file is closed shares the record.
        record = records.of(path, number)[-1]
        assert is_right(record), record


READ_MET = """
import json, sys, time
import numpy as np, uproot
base, counts, total = sys.argv[1], np.zeros(50, dtype=int), {}
manifest = json.loads(sys.argv[2])
for file in manifest:
    tree = uproot.open(f"{base}/{file}:Events")
    met = tree["MET_pt"].array(library="np")
    counts += np.histogram(met, 50, (0.0, 100.0))[0]
    for name, array in (("jets", tree["nJet"]), ("muons", tree["nMuon"])):
        total[name] = total.get(name, 0) + int(array.array(library="np").sum())
    total["events"] = total.get("events", 0) + len(met)
print(json.dumps({"counts": counts.tolist(), **total}))
"""


def test_the_generated_events_are_those_of_the_manifest(bed: Bed, alice_reads: DataClient) -> None:
    """uproot finds through the cache every event that was written, bin by bin."""
    manifest = json.loads(bed.exec("origin", ["cat", flawed_tokens.PATH]).stdout)
    names = json.dumps([file["name"] for file in manifest["files"]])
    done = alice_reads.python(READ_MET, "root://xcache//data/cms/met", names)
    assert done.ok, done.stderr[-1000:]
    seen = json.loads(done.stdout)
    assert seen.pop("counts") == manifest["met_histogram"]["counts"]
    assert seen == {name: manifest["counts"][name] for name in seen}
    assert manifest["counts"]["events"] == 2_000_000
    assert manifest["chunks"] >= 40


READ_NANO = """
import sys, uproot
print(uproot.open(sys.argv[1] + ":Events").num_entries)
"""


@pytest.mark.parametrize("name", ["nano_dy", "nano_dimuon", "nano_tt_v15"])
def test_real_files_are_open_to_everybody(carol_reads: DataClient, name: str) -> None:
    """A person of any group reads the facility's open data."""
    done = carol_reads.python(READ_NANO, f"root://xcache//data/open/nano/{name}.root")
    assert done.ok, done.stderr[-1000:]
    assert int(done.stdout) > 0


# Tokens

AUTH_FAILED = (52, "Auth failed")
PERMISSION_DENIED = (54, "[3010]")
READABLE = (0, "")
ROWS = {
    "none": AUTH_FAILED,
    "expired": AUTH_FAILED,
    "unknown issuer": AUTH_FAILED,
    "wrong key": AUTH_FAILED,
    "no audience": AUTH_FAILED,
    "another audience": PERMISSION_DENIED,
    "another path": PERMISSION_DENIED,
    "no scope": PERMISSION_DENIED,
    "no subject": PERMISSION_DENIED,
    "no version": PERMISSION_DENIED,
    "none: good": READABLE,
    "none: audiences, claims": READABLE,
}


@pytest.mark.parametrize("server", ["xcache", "origin"])
@pytest.mark.parametrize("flaw", ROWS)
def test_a_token_with_a_flaw_opens_nothing(
    flawed: dict[str, Callable[[], Secret | None]],
    alice_reads: DataClient,
    flaw: str,
    server: str,
) -> None:
    """What is wrong with a token decides how its bearer is refused, also at a hit."""
    url = f"root://{server}/{flawed_tokens.PATH}"
    assert alice_reads.copy(url).ok, "a good token must open it, or the row proves nothing"
    alice_reads.keep_token(flawed[flaw]())
    seen = alice_reads.copy(url)
    exit_code, words = ROWS[flaw]
    assert (seen.exit_code, words in seen.words) == (exit_code, True), seen


def test_a_token_that_others_may_read_is_not_sent(
    alice_reads: DataClient, data_browser: requests.Session, hubs_client: Client
) -> None:
    """A client does not use a token file of mode 0644."""
    token = data_tokens.fetch(data_browser, hubs_client, *data_tokens.ALL_SCOPES).access
    alice_reads.keep_token(token, mode=0o644)
    seen = alice_reads.copy(f"root://xcache/{flawed_tokens.PATH}")
    assert seen.exit_code == 52, seen


def test_without_the_authority_nothing_is_sent(alice_reads: DataClient) -> None:
    """A client that cannot check the cache's certificate does not show its token."""
    seen = alice_reads.copy(f"root://xcache/{flawed_tokens.PATH}", X509_CERT_FILE="/nowhere/ca.pem")
    assert seen.exit_code == 52, seen
    assert "/nowhere/ca.pem; does not exist" in seen.words


def test_a_groups_data_are_closed_to_another_group(
    alice_reads: DataClient, carol_reads: DataClient
) -> None:
    """Keycloak gives nobody another group's scope, and the cache no byte without it."""
    for path, owner, other in (
        ("cms/met/part-7.root", alice_reads, carol_reads),
        ("atlas/PHYSLITE_example.root", carol_reads, alice_reads),
    ):
        assert owner.copy(f"root://xcache//data/{path}").ok
        for server in ("xcache", "origin"):
            seen = other.copy(f"root://{server}//data/{path}")
            assert seen.exit_code == 54, seen
            assert "permission denied" in seen.words


def test_nobody_writes(bed: Bed, alice_reads: DataClient) -> None:
    """Neither server takes a file, and the origin keeps what it has."""
    name = f"/data/cms/judge/{uuid.uuid4().hex}"
    for server in ("xcache", "origin"):
        for path in (name, flawed_tokens.PATH):
            seen = alice_reads.write(f"root://{server}/{path}")
            assert seen.exit_code == 54, seen
    assert not bed.exec("origin", ["test", "-e", name]).ok
    assert json.loads(bed.exec("origin", ["cat", flawed_tokens.PATH]).stdout)


# Without the origin

READ_SLOWLY = """
import hashlib, json, os, sys, time
from XRootD.client import File
url, began = sys.argv[1:3]
file, digest, done, error = File(), hashlib.sha256(), 0, ""
status, _ = file.open(url)
size = file.stat()[1].size
while status.ok and done < size:
    asked = time.monotonic()
    status, data = file.read(done, 1 << 20)
    if status.ok:
        digest.update(data)
        done += len(data)
        open(began, "w").close()
waited = time.monotonic() - asked
print(json.dumps({"bytes": done, "sha256": digest.hexdigest(), "error": status.message,
                  "waited_s": waited}))
"""


def test_an_origin_that_dies_under_a_reader(
    bed: Bed, alice_reads: DataClient, new_file: Callable[..., tuple[str, str]]
) -> None:
    """A reader is told within half a minute and has no wrong byte; the next read is whole.

    What the cache holds can be read meanwhile.
    """
    cached, cached_sha256 = new_file(5)
    assert alice_reads.copy(f"root://xcache/{cached}").ok
    path, sha256 = new_file(800)
    began = f"{alice_reads.folder}/began"
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        reading = pool.submit(alice_reads.python, READ_SLOWLY, f"root://xcache/{path}", began)
        wait_until(
            lambda: alice_reads.run(["test", "-e", began]).ok, 30, what="a first block", poll_s=0.05
        )
        with faults.kill(bed, "origin"):
            done = reading.result(timeout=120)
            assert done.ok, done.stderr[-1000:]
            seen: dict[str, Any] = json.loads(done.stdout)
            assert seen["error"], "the file was read before the origin was gone"
            assert seen["waited_s"] < 30, seen
            expect_whole(alice_reads, f"root://xcache/{cached}", cached_sha256)
            head = ["sh", "-c", 'head -c "$1" "$2" | sha256sum', "head", str(seen["bytes"]), path]
        assert bed.exec("origin", head).stdout.split(" ")[0] == seen["sha256"]
    # Some seconds pass before the cache asks again (see `origin_killed`): it comes back by itself.
    url = f"root://xcache/{path}"
    again = expect_within(
        60,
        lambda: done if (done := alice_reads.copy(url, timeout_s=200)).ok else None,
        what="a read that the origin answers",
        poll_s=1,
    )
    assert again.sha256 == sha256, f"wrong bytes of {url}"
    bed.restart("xcache")


def test_who_has_a_token_reads_without_keycloak(
    bed: Bed, alice_reads: DataClient, new_file: Callable[..., tuple[str, str]]
) -> None:
    """The servers know the issuer's keys by then; a new connection asks Keycloak for nothing."""
    assert alice_reads.copy(f"root://xcache/{flawed_tokens.PATH}").ok
    path, sha256 = new_file(5)
    with faults.pause(bed, "keycloak"):
        expect_whole(alice_reads, f"root://xcache/{path}", sha256)


def test_a_full_disk_is_purged(full_disk: FullDisk, alice_reads: DataClient) -> None:
    """A cache without room makes some; what was purged comes from the origin again."""
    cache = full_disk.cache
    expect_within(200, lambda: cache.share_used <= LOW, what="a purge to the low mark", poll_s=2)
    for path, sha256 in full_disk.files:
        expect_whole(alice_reads, f"root://{cache.host}/{path}", sha256)
