"""Damaged data: found and told, or fetched anew; never handed out.

All clients run on a compute node, as people's code does, under their own uid.
"""

import re
from collections.abc import Callable, Iterator

import pytest

from testbed import extra_cache
from testbed.bed import Bed, Completed
from testbed.data_client import DataClient, Records
from testbed.extra_cache import ExtraCache

pytestmark = [pytest.mark.needs("data", "faults", "front_door"), pytest.mark.timeout(400)]

MIB = 2**20
SIZE_MIB = 20


@pytest.fixture(scope="module")
def cache(bed: Bed) -> Iterator[ExtraCache]:
    """An XCache of this file's own, on a disk in memory, to lay hands on."""
    with extra_cache.run(bed, "damaged", {}, disk_mib=400) as cache:
        yield cache


@pytest.fixture
def cached(
    bed: Bed,
    cache: ExtraCache,
    alice_reads: DataClient,
    new_file: Callable[[bytes | int], tuple[str, str]],
) -> tuple[str, str]:
    """A file that lies in the cache, whole and closed: its path and SHA-256."""
    path, sha256 = new_file(SIZE_MIB)
    records = Records(bed)
    assert alice_reads.copy(f"root://{cache.host}/{path}").sha256 == sha256
    records.of(path)
    return path, sha256


def harm(cache: ExtraCache, *argv: str) -> None:
    """Run what damages a file in the cache's container."""
    done = cache.exec(argv)
    assert done.ok, done.stderr


def test_a_damaged_page_in_the_cache_is_refused(
    cache: ExtraCache, cached: tuple[str, str], alice_reads: DataClient
) -> None:
    """Its reader gets an error, the log names file and place, and without the file it heals."""
    path, sha256 = cached
    url, kept = f"root://{cache.host}/{path}", cache.file(path)
    harm(cache, "dd", "if=/dev/zero", f"of={kept}", "bs=4096", "seek=1280", "count=1",
         "conv=notrunc", "status=none")  # fmt: skip
    for _ in range(2):
        seen = alice_reads.copy(url)
        assert (seen.exit_code, "[3019]" in seen.words) == (54, True), seen
    told = cache.container.logs().decode(errors="replace")
    assert re.search(rf"bad crc32c\S* checksum in file {path} at offset 0x500000", told), told[
        -2000:
    ]
    harm(cache, "rm", kept, f"{kept}.cinfo")
    seen = alice_reads.copy(url)
    assert (seen.ok, seen.sha256) == (True, sha256), seen


DAMAGE: dict[str, Callable[[str], tuple[str, ...]]] = {
    "data cut": lambda kept: ("truncate", "-s", str(7 * MIB), kept),
    "data gone": lambda kept: ("rm", kept),
    "records cut": lambda kept: ("truncate", "-s", "30", f"{kept}.cinfo"),
    "records gone": lambda kept: ("rm", f"{kept}.cinfo"),
    "records overwritten": lambda kept: (
        "dd", "if=/dev/urandom", f"of={kept}.cinfo", "bs=64", "count=1", "conv=notrunc",
        "status=none",
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_not_whole_is_fetched_anew(
    cache: ExtraCache, cached: tuple[str, str], alice_reads: DataClient, damage: str
) -> None:
    """A file that is short in the cache, or whose records are, is read right all the same."""
    path, sha256 = cached
    harm(cache, *DAMAGE[damage](cache.file(path)))
    for _ in range(2):
        seen = alice_reads.copy(f"root://{cache.host}/{path}")
        assert (seen.ok, seen.sha256) == (True, sha256), seen


def test_a_copy_is_held_against_the_origins_checksum(
    bed: Bed, cache: ExtraCache, cached: tuple[str, str], alice_reads: DataClient
) -> None:
    """xrdcp --cksum asks the origin, through the cache: what is no longer its file is told."""
    path, _ = cached
    url, copied = f"root://{cache.host}/{path}", f"{alice_reads.folder}/checked"

    def checked(kind: str) -> Completed:
        return alice_reads.run(["xrdcp", "-f", "--silent", "--cksum", kind, url, copied])

    for kind in ("adler32", "crc32c"):
        assert checked(kind).ok
    changed = ["dd", "if=/dev/urandom", f"of={path}", "bs=1M", "count=1", "conv=notrunc"]
    assert bed.exec("origin", changed).ok
    for kind in ("adler32", "crc32c"):
        done = checked(kind)
        assert (done.ok, "CheckSum error" in done.stderr) == (False, True), done


READ_ALL = """
import sys, uproot
with uproot.open({sys.argv[1]: "Events"}) as tree:
    tree.arrays(library="np")
"""


def test_a_corrupt_file_at_the_origin(
    bed: Bed, alice_reads: DataClient, new_file: Callable[[bytes | int], tuple[str, str]]
) -> None:
    """Who reads a damaged ROOT file by uproot has an error that says so, not wrong numbers."""
    whole, (path, _) = "/data/cms/met/part-3.root", new_file(1)
    assert alice_reads.python(READ_ALL, f"root://xcache/{whole}").ok
    middle = int(bed.exec("origin", ["stat", "-c", "%s", whole]).stdout) // 2
    assert bed.exec("origin", ["cp", whole, path]).ok
    harmed = ["dd", "if=/dev/urandom", f"of={path}", "bs=64", "count=1", "conv=notrunc",
              "oflag=seek_bytes", f"seek={middle}"]  # fmt: skip
    assert bed.exec("origin", harmed).ok
    done = alice_reads.python(READ_ALL, f"root://xcache/{path}")
    assert not done.ok
    told = rf"^ValueError: computed checksum \d+ didn't match expected checksum \d+\nin file {path}"
    assert re.search(told, done.stderr, re.MULTILINE), done.stderr[-1000:]
