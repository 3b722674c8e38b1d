"""What a scheduler has to give: read from its own answers, seen as one person, foretold."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import classad2
import pytest

from afportal.backends import htcondor_pool, slurm_pool
from afportal.pool import (
    Account,
    Ask,
    Machine,
    Partition,
    Pool,
    Qos,
    Room,
    Running,
    Waiting,
    access,
)
from afportal.pool.access import Access, NoWay, access_of
from afportal.pool.forecast import Outlook

DATA = Path(__file__).parents[1] / "data"
NOW = 1_795_321_600.0
SHORT = Ask(Room(1, 1000), 10, "short")


def answer(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DATA / "slurm" / f"{name}.json").read_text())
    return found


def ads(name: str) -> list[classad2.ClassAd]:
    lines = (DATA / "htcondor" / f"{name}.ads").read_text().splitlines()
    return [classad2.ClassAd(line) for line in lines]


@pytest.fixture(scope="module")
def cluster() -> Pool:
    """The testbed's Slurm as slurmrestd tells of it."""
    return slurm_pool.pool_of(
        answer("nodes"), answer("partitions"), answer("associations-all"), answer("qos"),
        answer("jobs"), NOW,
    )  # fmt: skip


@pytest.fixture
def pool() -> Pool:
    """The testbed's HTCondor pool as its collector tells of it."""
    return htcondor_pool.pool_of(ads("slots"), ads("jobs"), NOW)


def seen_by(cluster: Pool, person: str, *groups: str) -> Access:
    found = access_of(cluster, person, frozenset(groups), usual_partition="interactive")
    assert found is not None
    return found


# Slurm's answers


def test_nodes_have_what_they_declare_less_what_runs(cluster: Pool) -> None:
    node = cluster.machines[0]
    assert node.whole == Room(16, 24576, {"k40": 1, "t4": 1}, {"batch": 12, "short": 2})
    assert node.free == Room(0, 20480, {"k40": 1, "t4": 1}, {"batch": 12, "short": 2})
    assert node.up


def test_nodes_that_are_away_for_a_moment_bar_nobody() -> None:
    """What may be asked for is what there is, not what answers just now."""
    nodes = answer("nodes")
    for found in nodes["nodes"]:
        found["state"] = ["IDLE", "NOT_RESPONDING"]
    pool = slurm_pool.pool_of(
        nodes, answer("partitions"), answer("associations-all"), answer("qos"), {}, NOW
    )
    assert seen_by(pool, "alice", "cms").way(Ask(Room(1, 1000), 60)).partition.name == "interactive"
    assert Outlook(pool).of(SHORT).standing == "never"


def test_of_several_clusters_accounts_of_this_one_count() -> None:
    entries = answer("associations-all")
    for found in entries["associations"]:
        found["cluster"] = "another"
    pool = slurm_pool.pool_of(answer("nodes"), answer("partitions"), entries, {}, {}, NOW)
    assert pool.accounts == {}


def test_a_pending_array_is_as_many_jobs_as_may_run() -> None:
    job = {
        "job_state": ["PENDING"], "state_reason": "Resources", "partition": "short", "job_id": 7,
        "tres_req_str": "cpu=1,mem=100M", "priority": {"set": True, "number": 5},
    }  # fmt: skip
    for spans, count in (("", 1), ("0-15", 16), ("1-9:2,20", 6), ("1-1000%4", 4)):
        listed = {"jobs": [{**job, "array_task_string": spans}]}
        assert len(slurm_pool.pool_of({}, {}, {}, {}, listed, NOW).waiting) == count


@pytest.mark.parametrize("state", ["DOWN", "DRAIN", "NOT_RESPONDING"])
def test_a_node_that_is_away_takes_nothing(state: str) -> None:
    nodes = answer("nodes")
    for node in nodes["nodes"]:
        node["state"] = ["IDLE", state]
    found = slurm_pool.pool_of(nodes, answer("partitions"), {}, {}, {}, NOW)
    assert Outlook(found).of(SHORT).standing == "never"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("gpu:2", {"": 2}),
        ("gpu", {"": 1}),
        ("gpu:2080ti:4,gpu:a100_1g.5gb:7(S:0)", {"2080ti": 4, "a100_1g.5gb": 7}),
        ("gpu:k40:1,gpu:t4:2(S:0-1)", {"k40": 1, "t4": 2}),
        ("gpu:k40:1(IDX:0),gpu:t4:0(IDX:N/A)", {"k40": 1}),
        ("craynetwork:4,gpu:a100:8", {"a100": 8}),
    ],
)
def test_gpus_of_a_node(text: str, found: dict[str, int]) -> None:
    assert slurm_pool.gpus_of(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("node1", ["node1"]),
        ("node[08-10,12],gpu1", ["node08", "node09", "node10", "node12", "gpu1"]),
        ("r[1-2]-ib", ["r1-ib", "r2-ib"]),
    ],
)
def test_lists_of_hosts(text: str, found: list[str]) -> None:
    assert slurm_pool.hosts(text) == found


def test_what_a_job_has_is_read_in_mib() -> None:
    assert slurm_pool.tres_of("cpu=2,mem=1.5G,node=1,gres/gpu=3,gres/gpu:k40=2") == (
        2, 1536, {"k40": 2, "": 1},
    )  # fmt: skip


def test_a_jobs_end_is_when_its_time_is_over(cluster: Pool) -> None:
    assert len(cluster.running) == 3
    job = cluster.running[0]
    assert (job.machine, job.room.cores, job.room.memory_mib) == ("slurm-node-2", 1, 256)
    assert job.ends_s == 1795335757


# One person


def test_a_partition_of_a_group_is_its_members_alone(cluster: Pool) -> None:
    """gpu takes the group and the QOS gpu, cms the account cms, nudge the portal's account."""
    names = {
        person: {p.name for p in seen_by(cluster, person, *groups).partitions}
        for person, groups in {
            "alice": ("cms", "gpu"), "carol": ("atlas",), "grace": ("external", "gpu"),
        }.items()
    }  # fmt: skip
    common = {"interactive", "batch", "short"}
    assert names["alice"] == common | {"gpu", "cms"}
    assert names["carol"] == common
    # In the group, without an account that has the QOS.
    assert names["grace"] == common


def test_what_is_left_open_is_filled_in_so_that_it_runs(cluster: Pool) -> None:
    """The usual partition with the defaults, or the first one that allows as much."""
    alice = seen_by(cluster, "alice", "cms", "gpu")
    usual = alice.way(Ask(Room(1, 1000), 60))
    assert (usual.partition.name, usual.account.name, usual.qos) == ("interactive", "cms", "normal")
    long = alice.way(Ask(Room(1, 1000), 1000))
    assert (long.partition.name, long.runtime_min) == ("batch", 2880)
    gpu = alice.way(Ask(Room(1, 1000, {"k40": 1}), 60, "gpu"))
    assert (gpu.qos, gpu.runtime_min) == ("gpu", 240)


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (Ask(Room(1, 1000), 60, "gpu"), "partition gpu asked; you may use batch, interactive"),
        (Ask(Room(1, 1000), 60, "nudge"), "partition nudge asked"),
        (Ask(Room(1, 1000), 60, account="cms"), "account cms asked; in partition interactive"),
        (Ask(Room(1, 1000), 60, qos="gold"), "QOS gold asked; partition interactive"),
        (Ask(Room(1, 1000), 60, "short"), "60 runtime_min asked; partition short .* allows 10"),
        (Ask(Room(3, 1000), 5, "short"), "3 cores asked; partition short .* allows 2"),
        (Ask(Room(1, 10**7), 5), "10000000 memory_mib asked; .* allows 204800"),
        (Ask(Room(1, 10, {"a100": 1}), 5), "1 GPUs a100 asked; .* has 0 on one machine"),
    ],
)
def test_a_refusal_says_what_was_asked_and_what_is_allowed(
    cluster: Pool, ask: Ask, told: str
) -> None:
    with pytest.raises(NoWay, match=told):
        seen_by(cluster, "grace", "external").way(ask)


def test_who_has_no_account_has_no_way(cluster: Pool) -> None:
    stranger = seen_by(cluster, "otto")
    assert stranger.partitions == ()
    with pytest.raises(NoWay, match="no account"):
        stranger.way(SHORT)


def test_an_allow_list_makes_the_deny_list_void() -> None:
    """As slurm.conf(5) has it, for accounts and QOS alike."""
    account = Account("cms", qos=("normal", "gold"))
    parts = (
        Partition("a", accounts=frozenset(["cms"]), denied_accounts=frozenset(["cms"])),
        Partition("b", denied_accounts=frozenset(["cms"])),
        Partition("c", denied_qos=frozenset(["normal"])),
        Partition("d", denied_qos=frozenset(["normal", "gold"])),
        Partition("e", up=False),
    )
    whole = Room(8, 8000)
    names = frozenset("abcde")
    made = Pool((Machine("n", whole, whole, names),), parts, {"alice": (account,)})
    alice = access_of(made, "alice", frozenset())
    assert alice is not None
    assert [p.name for p in alice.partitions] == ["a", "c"]
    assert alice.way(Ask(Room(1, 1), 1, "c")).qos == "gold"


def test_200_accounts_alike_are_one_look_at_a_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody may have is not tried in every account's name; one that may have more is."""
    looks = []
    judge = access.too_much
    monkeypatch.setattr(
        access, "too_much", lambda way, ask: looks.append(way.account.name) or judge(way, ask)
    )
    names = [f"p{number}" for number in range(50)]
    parts = tuple(Partition(name) for name in names)
    whole = Room(8, 8000)
    accounts = [
        Account(f"a{n:03}", qos=("normal", "gold"), default_qos="normal", runtime_min=60)
        for n in range(200)
    ]
    longer = Account("b", qos=("normal",), default_qos="normal", runtime_min=600)
    made = Pool(
        (Machine("n", whole, whole, frozenset(names)),), parts, {"alice": (*accounts, longer)}
    )
    alice = access_of(made, "alice", frozenset())
    assert alice is not None
    assert alice.way(Ask(Room(1, 100), 600)).account.name == "b"
    looks.clear()
    with pytest.raises(NoWay, match="9 cores asked; partition p0 with QOS normal allows 8"):
        alice.way(Ask(Room(9, 100), 60))
    assert len(looks) == 3 * len(parts)


def test_an_account_below_one_that_is_allowed_is_allowed() -> None:
    parts = (
        Partition("a", accounts=frozenset(["cms"])),
        Partition("b", denied_accounts=frozenset(["cms"])),
    )
    whole = Room(8, 8000)
    accounts = (Account("higgs", above=frozenset(["cms", "root"]), qos=("normal",)),)
    made = Pool((Machine("n", whole, whole, frozenset("ab")),), parts, {"alice": accounts})
    alice = access_of(made, "alice", frozenset())
    assert alice is not None
    assert [p.name for p in alice.partitions] == ["a"]


@pytest.mark.parametrize(
    ("partition", "qos", "account", "found"),
    [
        (None, None, None, 500), (100, 200, 300, 100), (None, 200, 60, 200), (None, None, 60, 60),
        (9000, None, 60, 500),
    ],
)  # fmt: skip
def test_the_first_limit_that_is_set_counts(
    partition: int | None, qos: int | None, account: int | None, found: int
) -> None:
    """Of the partition's QOS, the job's and the association; the partition's time beside it."""
    part = Partition("a", runtime_min=500, assigned_qos="p")
    whole = Room(8, 8000)
    limits = {"p": Qos("p", runtime_min=partition), "q": Qos("q", runtime_min=qos)}
    mine = (Account("cms", qos=("q",), runtime_min=account),)
    made = Pool((Machine("n", whole, whole, frozenset("a")),), (part,), {"alice": mine}, limits)
    alice = access_of(made, "alice", frozenset())
    assert alice is not None
    assert alice.way(Ask(Room(1, 1), 1)).runtime_min == found


def test_an_association_with_a_partition_counts_for_it_alone() -> None:
    parts = (Partition("a"), Partition("b"))
    whole = Room(8, 8000)
    accounts = (Account("cms", partition="b", qos=("normal",)),)
    made = Pool((Machine("n", whole, whole, frozenset("ab")),), parts, {"alice": accounts})
    alice = access_of(made, "alice", frozenset())
    assert alice is not None
    assert [p.name for p in alice.partitions] == ["b"]


# What is foretold


def node(name: str, cores: int, free: int, **quota: int) -> Machine:
    return Machine(
        name, Room(cores, 1000 * cores, quota=quota), Room(free, 1000 * free, quota=quota),
        frozenset(["short", "long"]),
    )  # fmt: skip


def test_free_room_starts_now() -> None:
    found = Outlook(Pool((node("a", 4, 1), node("b", 4, 0)), asked_s=NOW)).of(SHORT)
    assert (found.standing, found.free, found.ahead) == ("now", 1, 0)


def test_what_no_machine_could_hold_never_starts() -> None:
    outlook = Outlook(Pool((node("a", 4, 4),), asked_s=NOW))
    assert outlook.of(Ask(Room(5, 10), 10)).standing == "never"
    assert outlook.of(Ask(Room(1, 10), 10, "elsewhere")).standing == "never"
    assert outlook.of(Ask(Room(1, 10, {"": 1}), 10)).standing == "never"


def test_a_full_pool_says_when_the_first_job_ends() -> None:
    full = Pool(
        (node("a", 2, 0),),
        running=(
            Running("a", Room(1, 1000), NOW + 900), Running("a", Room(1, 1000), NOW + 300),
        ),
        asked_s=NOW,
    )  # fmt: skip
    found = Outlook(full).of(SHORT)
    assert (found.standing, found.at_s) == ("later", NOW + 300)
    both = Outlook(full).of(Ask(Room(2, 2000), 10, "short"))
    assert both.at_s == NOW + 900


def test_a_job_on_many_machines_is_one_of_a_persons_jobs() -> None:
    machines = tuple(node(f"n{n}", 2, 1) for n in range(4))
    pieces = tuple(
        Running(m.name, Room(1, 1000), NOW + 60, "7", "alice", "normal") for m in machines
    )
    qos = {"normal": Qos("normal", jobs_a_person=4)}
    outlook = Outlook(Pool(machines, qos=qos, running=pieces, asked_s=NOW))
    assert outlook.of(replace(SHORT, qos="normal"), "alice").standing == "now"


def test_a_job_whose_time_is_over_ends_any_moment() -> None:
    late = Running("a", Room(1, 1000), NOW - 5)
    found = Outlook(Pool((node("a", 1, 0),), running=(late,), asked_s=NOW)).of(SHORT)
    assert (found.standing, found.at_s) == ("later", NOW + 60)


def test_a_full_pool_of_jobs_without_an_end_says_so() -> None:
    full = Pool((node("a", 1, 0),), running=(Running("a", Room(1, 1000), None),), asked_s=NOW)
    assert Outlook(full).of(SHORT).standing == "full"


def test_who_waits_comes_first() -> None:
    """One free core, and somebody before us who wants it for longer than we do."""
    waiting = Waiting(Ask(Room(1, 1000), 60, "short"), priority=(1, 100))
    found = Outlook(Pool((node("a", 2, 1),), waiting=(waiting,), asked_s=NOW)).of(SHORT)
    assert (found.standing, found.at_s, found.ahead) == ("later", NOW + 3600, 1)


def test_a_short_job_slips_in_before_a_large_one_that_must_wait() -> None:
    """Backfill: it ends before what the large one waits for does; a longer one has to wait."""
    large = Waiting(Ask(Room(2, 2000), 60, "long"), priority=(1, 100))
    held = Running("a", Room(1, 1000), NOW + 1800)
    outlook = Outlook(Pool((node("a", 2, 1),), running=(held,), waiting=(large,), asked_s=NOW))
    assert outlook.of(SHORT).standing == "now"
    assert outlook.of(replace(SHORT, runtime_min=40)).at_s == NOW + 1800 + 3600


def test_who_waits_for_something_else_is_not_before_us() -> None:
    waiting = Waiting(Ask(Room(1, 1000), 60, "short"), priority=(1, 100), blocked=True)
    found = Outlook(Pool((node("a", 2, 1),), waiting=(waiting,), asked_s=NOW)).of(SHORT)
    assert (found.standing, found.ahead) == ("now", 0)


def test_a_job_in_the_queue_has_its_place() -> None:
    """Those before it, of its partition, and the end of what it waits for; nothing of others."""

    def waits(job: str, priority: int, partition: str = "short", **more: Any) -> Waiting:
        return Waiting(Ask(Room(1, 1000), 10, partition), 1, (1, priority), job=job, **more)

    runs = Running("a", Room(1, 1000), NOW + 300)
    waiting = (
        waits("mine", 5), waits("first", 9), waits("later", 1), waits("else", 9, "long"),
        waits("held", 9, blocked=True),
    )  # fmt: skip
    outlook = Outlook(Pool((node("a", 1, 0),), running=(runs,), waiting=waiting, asked_s=NOW))
    mine = outlook.queued("mine")
    assert mine is not None
    assert (mine.standing, mine.ahead) == ("later", 1)
    assert mine.at_s == NOW + 300 + 2 * 600
    assert outlook.queued("held") is None
    assert outlook.queued("7") is None
    endless = Pool((node("a", 1, 0),), running=(replace(runs, ends_s=None),), waiting=waiting[:2])
    found = Outlook(replace(endless, asked_s=NOW)).queued("mine")
    assert found is not None
    assert (found.standing, found.at_s, found.ahead) == ("full", None, 1)


def test_a_partitions_quota_of_a_node_is_a_limit_of_its_own() -> None:
    """Two cores a node for `short`, both taken: other partitions still have the rest."""
    machine = node("a", 8, 6, short=2)
    machine = replace(machine, free=replace(machine.free, quota={"short": 0}))
    job = Running("a", Room(2, 2000, quota={"short": 2}), NOW + 120)
    outlook = Outlook(Pool((machine,), running=(job,), asked_s=NOW))
    assert outlook.of(SHORT).at_s == NOW + 120
    assert outlook.of(replace(SHORT, partition="long")).standing == "now"


def test_a_persons_own_limit_is_told() -> None:
    mine = Running("a", Room(1, 1000, {"k40": 1}), NOW + 60, "7", "alice", "gpu")
    machine = Machine("a", Room(4, 4000, {"k40": 2}), Room(3, 3000, {"k40": 1}))
    qos = {"gpu": Qos("gpu", jobs_a_person=2, gpus_a_person=1)}
    outlook = Outlook(Pool((machine,), qos=qos, running=(mine,), asked_s=NOW))
    ask = Ask(Room(1, 1000, {"k40": 1}), 10, qos="gpu")
    found = outlook.of(ask, "alice")
    assert found.standing == "full"
    assert "you have 1 GPUs with QOS gpu, which allows 1" in found.why
    assert outlook.of(ask, "bob").standing == "now"


def test_a_table_too_large_is_not_made() -> None:
    """Then what is free is known, and nobody holds the hub up to say more."""
    running = tuple(Running(f"n{n}", Room(1, 1), NOW + n + 1) for n in range(700))
    machines = tuple(node(f"n{n}", 1, 0) for n in range(700))
    outlook = Outlook(Pool(machines, running=running, asked_s=NOW))
    assert not outlook.told
    assert outlook.of(SHORT).standing == "full"


# HTCondor's ads


def test_slots_are_judged_by_their_own_policy(pool: Pool) -> None:
    """A reserved slot takes a small notebook alone, the others everything but that."""
    by_name = {machine.name: machine for machine in pool.machines}
    reserved, batch = by_name["slot8@condor-ep-1"], by_name["slot1@condor-ep-1"]
    small = Ask(Room(1, 1536), 60, reserved=True)
    assert (reserved.ever(small), batch.ever(small)) == (True, False)
    large = Ask(Room(2, 4096), 60)
    assert (reserved.ever(large), batch.ever(large)) == (False, True)


def test_gpus_are_told_apart(pool: Pool) -> None:
    outlook = Outlook(pool)
    assert outlook.of(Ask(Room(1, 1000, {"t4": 1}), 60)).standing == "now"
    assert outlook.of(Ask(Room(1, 1000, {"": 2}), 60)).standing == "now"
    assert outlook.of(Ask(Room(1, 1000, {"t4": 2}), 60)).standing == "never"
    assert outlook.of(Ask(Room(1, 1000, {"a100": 1}), 60)).standing == "never"


def test_an_odd_job_spoils_nothing() -> None:
    """A request that is an expression, as people write them, counts for what it is worth now."""
    job = classad2.ClassAd(
        "[ClusterId = 1; ProcId = 0; JobStatus = 1; IsNotebook = false; ImageSize = 10;"
        ' RequestMemory = 2 * ImageSize; RequestCpus = undefined; RequestGPUs = "two"]'
    )
    (waiting,) = htcondor_pool.pool_of([], [job], NOW).waiting
    assert waiting.ask.room == Room(1, 20)


def test_a_claimed_slot_is_free_when_its_notebooks_time_is_over() -> None:
    """The job on it says for how long it may run; the whole slot is free then."""
    slot = next(s for s in ads("slots") if s["State"] == "Claimed")
    job = ads("jobs")[0]
    job["RemoteHost"] = slot["Name"]
    outlook = Outlook(htcondor_pool.pool_of([slot], [job], NOW))
    found = outlook.of(Ask(Room(1, 1536), 60, reserved=True))
    assert (found.standing, found.at_s) == ("later", 1795321517 + 14400)


def test_a_kept_claim_is_its_persons_alone() -> None:
    slot = next(s for s in ads("slots") if s["State"] == "Claimed")
    slot["Activity"], slot["RemoteOwner"] = "Idle", "alice@af.test"
    outlook = Outlook(htcondor_pool.pool_of([slot], [], NOW))
    ask = Ask(Room(1, 1536), 60, reserved=True)
    assert outlook.of(ask, "alice").standing == "now"
    assert outlook.of(ask, "bob").standing == "full"
