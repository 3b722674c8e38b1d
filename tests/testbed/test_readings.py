"""What schedulers, hub and directory print is read right: real captured output in tests/data."""

import json
import struct
from pathlib import Path

import pytest

from testbed import orphans, own_site
from testbed.errors import ScenarioFailed
from testbed.hub_client import parse_progress
from testbed.hub_metrics import QUERIES, SPAWN_DURATION, HubMetrics
from testbed.kernels import decode, plain
from testbed.orphans import Job, Server

DATA = Path(__file__).parent.parent / "data"


def test_people_of_the_directory() -> None:
    """ldapsearch of OpenLDAP 2.6: groups by memberUid and by primary gid."""
    people = own_site.accounts((DATA / "ldapsearch.ldif").read_text())
    assert [(p.name, p.uid, p.gid, p.groups) for p in people] == [
        ("alice", 20001, 20100, ["cms", "gpu", "people"]),
        ("bob", 20002, 20100, ["cms", "people"]),
        ("student01", 20009, 20106, ["people", "tutorial"]),
    ]


def test_ldif_folds_and_encodes() -> None:
    text = "dn: cn=a\ncn: a\ndescription:: w6nDqA==\nmemberUid: ali\n ce\n\n# end\n"
    assert own_site.entries(text) == [
        {"dn": ["cn=a"], "cn": ["a"], "description": ["éè"], "memberUid": ["alice"]}
    ]


def test_condor_q() -> None:
    """condor_q 23.9.6 -json; an empty queue prints nothing at all."""
    assert orphans.parse_condor_q((DATA / "condor_q.json").read_text()) == [
        Job("htcondor", "27.0", "alice", "running", "hub", "alice/")
    ]
    assert orphans.parse_condor_q("") == []


def test_squeue() -> None:
    """squeue 24.11.5; a person's own job whose name imitates the portal's is not taken for one."""
    assert orphans.parse_squeue((DATA / "squeue.txt").read_text()) == [
        Job("slurm", "8", "bob", "pending", "hub", "bob/third"),
        Job("slurm", "5", "alice", "running", "hub", "alice/"),
        Job("slurm", "6", "bob", "running", "hub", "bob/second"),
        Job("slurm", "7", "bob", "running", "hub|alice/", "(null)"),
    ]


def test_orphans_are_those_without_their_other_half() -> None:
    jobs = [
        Job("htcondor", "1.0", "alice", "running", "hub", "alice/"),
        Job("slurm", "7", "bob", "running", "hub", "bob/second"),
    ]
    servers = [
        Server("alice", "", "htcondor", "hub"),
        Server("carol", "", "slurm", "hub"),
        Server("dave", "", "local", "hub"),
    ]
    found = orphans.compare(jobs, servers)
    assert (found.jobs, found.servers, found.count) == ([jobs[1]], [servers[1]], 2)
    assert "slurm job 7 of bob" in str(found)
    assert "server carol/ of hub on slurm" in str(found)
    assert orphans.compare([], []).count == 0


def test_another_cells_server_is_no_other_half() -> None:
    """The same person's server of the same name at another hub instance hides no orphan."""
    job = Job("htcondor", "1.0", "alice", "running", "htc-1", "alice/")
    server = Server("alice", "", "htcondor", "oauth-1")
    found = orphans.compare([job], [server])
    assert (found.jobs, found.servers) == ([job], [server])


def test_hub_metrics() -> None:
    """JupyterHub 6.1.1."""
    metrics = HubMetrics((DATA / "hub_metrics.txt").read_text())
    spread = metrics.spread(SPAWN_DURATION, status="success")
    assert spread.count == 2
    assert spread.mean_s == pytest.approx(1.1648, abs=1e-4)
    assert metrics.spread(SPAWN_DURATION, status="failure").mean_s is None
    assert (spread - spread).count == 0
    with pytest.raises(ScenarioFailed, match=QUERIES):
        metrics.require(QUERIES)


def test_several_hubs_count_as_one() -> None:
    text = (DATA / "hub_metrics.txt").read_text()
    assert HubMetrics(text, text).spread(SPAWN_DURATION, status="success").count == 4


def test_progress_stream() -> None:
    """The portal's own stream, from the request to ready."""
    lines = (DATA / "progress.txt").read_text().splitlines()
    events = [parse_progress(line.removeprefix("data:")) for line in lines if line]
    phases = [event.phase for event in events if event.phase]
    assert phases[0] == "accepted"
    assert "hello" in phases
    assert [event.ready for event in events] == [False] * (len(events) - 1) + [True]
    stamps = [event.hub_unix_s for event in events if event.hub_unix_s]
    assert stamps == sorted(stamps)


def test_frames_with_and_without_buffers() -> None:
    """Source: jupyter_server's default web socket protocol: count, offsets, JSON, buffers."""
    header = {"header": {"msg_type": "status", "msg_id": "m"}, "content": {}}
    text = json.dumps(header)
    assert decode(text)["msg_type"] == "status"
    body = text.encode()
    offsets = [12, 12 + len(body)]
    frame = struct.pack("!3I", 2, *offsets) + body + b"buffer"
    message = decode(frame)
    assert (message["msg_id"], message["buffers"]) == ("m", [b"buffer"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a\x1b[31mred\x1b[0m b", "ared b"), ("none", "none"), ("cut \x1b[3", "cut ")],
)
def test_colours_are_taken_out(text: str, expected: str) -> None:
    assert plain(text) == expected
