"""A load's parts that need no facility: shapes, accounts, causes, bounds, clocks, broken files."""

import itertools
import random
from collections import Counter
from pathlib import Path

import pytest

from testbed import bench_load, causes
from testbed.bench_spawn import compare_clocks
from testbed.errors import LoginRefused, NotInTime, ScenarioFailed, TestbedError, UsageError
from testbed.hub_client import (
    HubClient,
    HubRefused,
    HubUnreachable,
    Spawn,
    SpawnFailed,
    SpawnRefused,
)
from testbed.hub_metrics import Spread
from testbed.job_watch import JobWatch
from testbed.kernels import CellFailed, KernelDied
from testbed.load_plan import LoadPlan, suitable
from testbed.load_process import read_records
from testbed.load_shapes import SHAPES, Shape
from testbed.open_visits import OpenVisits
from testbed.orphans import Job
from testbed.people_pool import PeoplePool
from testbed.results import SpawnRecord
from testbed.secret import Secret
from testbed.site import Site, parse_site

SECONDS = 600.0

SITE = """
name = "elsewhere"
front_door = "https://hub.example.org"
[[hubs]]
name = "hub"
[backends.slurm]
"""


def site(passwords: int = 3, tokens: int = 0) -> Site:
    people = [f'[[users]]\nname = "p{n}"\npassword_env = "P{n}"\n' for n in range(passwords)]
    people += [f'[[users]]\nname = "t{n}"\ntoken_env = "T{n}"\n' for n in range(tokens)]
    return parse_site(SITE + "\n".join(people), Path("/nonexistent/site.toml"))


def made(name: str, people: int = 20, seed: int = 1) -> Shape:
    return SHAPES[name](people, SECONDS, seed)


def record(**more: object) -> SpawnRecord:
    told = {"user": "alice", "hub": "htc", "backend": "htcondor"}
    return SpawnRecord.model_validate(told | more)


# Shapes


@pytest.mark.parametrize("name", [name for name in SHAPES if name != "poisson"])
@pytest.mark.parametrize("people", [1, 2, 20, 300])
def test_everybody_arrives_once_and_in_time(name: str, people: int) -> None:
    shape = made(name, people)
    assert len(shape.arrivals_s) == people
    assert list(shape.arrivals_s) == sorted(shape.arrivals_s)
    assert shape.arrivals_s[0] >= 0
    assert shape.arrived(SECONDS) == people
    counts = [shape.arrived(t) for t in range(int(SECONDS) + 1)]
    assert counts == sorted(counts)
    assert max(counts) == people


def test_burst_is_at_once_and_together() -> None:
    shape = made("burst")
    assert (shape.arrived(0), shape.together, shape.again) == (20, True, False)


def test_steady_is_there_after_a_tenth_of_the_time() -> None:
    shape = made("steady")
    assert shape.arrived(0) == 1
    assert shape.arrived(SECONDS / 10) == 20
    assert shape.again


def test_ramp_grows_evenly() -> None:
    shape = made("ramp")
    steps = [b - a for a, b in itertools.pairwise(shape.arrivals_s)]
    assert max(steps) == pytest.approx(min(steps)) == pytest.approx(SECONDS * 0.8 / 20)
    assert shape.arrived(SECONDS * 0.4) == 11


def test_a_tutorial_arrives_around_its_begin_and_leaves_together() -> None:
    """A bell: half by the tenth of the time, nearly all within a fifth; nobody goes early."""
    shape = made("tutorial", 100)
    assert shape.arrived(SECONDS * 0.1) == 50
    assert shape.arrived(SECONDS * 0.2) >= 98
    busiest = Counter(int(t // (SECONDS * 0.02)) for t in shape.arrivals_s).most_common(2)
    assert {bin_ for bin_, _ in busiest} == {4, 5}
    assert shape.stay_until_s == pytest.approx(SECONDS * 0.85)
    assert not shape.again


def test_poisson_is_seeded_and_has_the_rate_and_spread_of_its_kind() -> None:
    """One a person and minute: 20 people, 10 minutes, so 200 arrivals, ± 3 √200."""
    assert made("poisson") == made("poisson")
    assert made("poisson", seed=1) != made("poisson", seed=2)
    counts = [len(made("poisson", seed=seed).arrivals_s) for seed in range(100)]
    mean = sum(counts) / len(counts)
    variance = sum((count - mean) ** 2 for count in counts) / len(counts)
    assert mean == pytest.approx(200, abs=3 * 200**0.5 / 10)
    assert variance == pytest.approx(200, rel=0.5)
    for seed in range(10):
        assert all(0 <= t < SECONDS for t in made("poisson", seed=seed).arrivals_s)
    assert SHAPES["poisson"](1, 0.001, 1).arrivals_s == (0.0,)


# Accounts


def test_no_account_is_used_twice_at_once() -> None:
    """Two workers, 5 accounts, a thousand claims and releases in any order."""
    luck = random.Random(7)  # noqa: S311 - nothing secret
    pool = PeoplePool([f"p{n}" for n in range(5)])
    inside: list[str] = []
    away = 0
    for _ in range(1000):
        if inside and luck.random() < 0.5:
            pool.release(inside.pop(luck.randrange(len(inside))))
            continue
        name = pool.claim(luck.choice(["worker-1", "worker-2"]))
        if name is None:
            away += 1
            assert len(inside) == 5
        else:
            assert name not in inside
            inside.append(name)
        assert sorted(pool.held) == sorted(inside)
    assert pool.turned_away == away > 0


def test_a_name_released_twice_is_free_once() -> None:
    pool = PeoplePool(["a"])
    assert pool.claim("x") == "a"
    pool.release("a")
    pool.release("a")
    assert [pool.claim("x"), pool.claim("y")] == ["a", None]


def test_a_lost_workers_accounts_are_written_off() -> None:
    """They are not waited for, and not handed out again: a server of theirs may still run."""
    pool = PeoplePool(["a", "b"])
    assert [pool.claim("worker-1"), pool.claim("worker-2")] == ["a", "b"]
    pool.lose({"worker-2"})
    assert (pool.lost, list(pool.held), pool.finished) == (["a"], ["b"], 1)
    assert pool.claim("worker-2") is None
    pool.release("a")  # its word comes late
    assert pool.claim("worker-2") is None


def test_the_account_that_was_free_longest_is_next() -> None:
    """A code of a second factor counts once in 30 s, so nobody shall come again at once."""
    pool = PeoplePool(["a", "b", "c"])
    pool.release(str(pool.claim("x")))
    assert [pool.claim("x"), pool.claim("x"), pool.claim("x")] == ["b", "c", "a"]


# Causes


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (HubUnreachable("no answer"), "facility_down"),
        (HubRefused("GET /", 503, "no hub"), "facility_down"),
        (HubRefused("GET /", 401, ""), "token_refused"),
        (HubRefused("GET /", 403, "Missing or invalid credentials."), "token_refused"),
        (SpawnRefused("POST /", 403, ""), "not_allowed"),
        (SpawnRefused("POST /", 404, ""), "unknown_person"),
        (HubRefused("a server", 409, "has one"), "already_running"),
        (SpawnRefused("POST /", 429, "Too many users trying to log in"), "limit_reached"),
        (SpawnRefused("POST /", 400, "no such class"), "request_refused"),
        (HubRefused("GET /", 302, ""), "other"),
        (SpawnFailed(Spawn("a", "", {}), "held"), "spawn_failed"),
        (NotInTime("not ready after 120 s"), "not_in_time"),
        (KernelDied("gone"), "kernel_failed"),
        (CellFailed("a cell", "NameError", ""), "kernel_failed"),
        (LoginRefused("no"), "login_refused"),
        (UsageError("P1 is not set"), "site_file"),
        (TestbedError("broke"), "harness_broke"),
        (ScenarioFailed("6 * 7 gave 41"), "other"),
    ],
)
def test_each_failure_has_its_cause(error: Exception, cause: str) -> None:
    assert causes.cause_of(error) == cause
    assert cause in causes.CAUSES


def test_failures_are_counts_and_never_latencies() -> None:
    """A limit reached after two seconds is no spawn of two seconds."""
    slow = {"click": 100.0, "ready": 130.0}
    records = [
        record(own_unix_s={"click": 100.0, "ready": 101.0}),
        record(outcome="failed", cause="limit_reached", own_unix_s={"click": 100.0}),
        record(outcome="failed", cause="limit_reached", own_unix_s={"click": 100.0}),
        record(outcome="failed", cause="kernel_failed", own_unix_s=slow),
    ]
    figures = bench_load.summary(records)
    assert figures["failed"] == 3
    assert (figures["failed_limit_reached"], figures["failed_kernel_failed"]) == (2, 1)
    assert figures["htcondor_ready_p50_s"] == figures["htcondor_ready_max_s"] == 1.0
    assert "failed_facility_down" not in figures


# Bounds


def plan(at: Site, *, own: bool = False, **more: object) -> LoadPlan:
    asked = {
        "behaviours": ("script",), "shape": "burst", "backend": "slurm", "people": 2,
        "seconds": 60.0, "pause_s": 1.0, "timeout_s": 120.0,
    }  # fmt: skip
    ceilings = {key: more.pop(key) for key in ("most_people", "most_seconds") if key in more}
    return LoadPlan.checked(at, own=own, **ceilings, **(asked | more))  # type: ignore[arg-type]


def test_somebody_elses_facility_is_asked_little_unless_told_otherwise() -> None:
    many = site(passwords=20)
    assert plan(many, people=5).people == 5
    with pytest.raises(UsageError, match="errors") as caught:
        plan(many, people=6, seconds=901)
    assert "--most-people 6" in caught.value.seen
    assert "--most-seconds 901" in caught.value.seen
    assert plan(many, people=6, most_people=6).people == 6
    assert plan(many, people=20, seconds=3600, own=True).people == 20


def test_all_errors_of_a_plan_are_told_together() -> None:
    with pytest.raises(UsageError) as caught:
        plan(site(), behaviours=("newcomer", "ghost"), shape="flood", backend="pbs", people=2)
    for part in ("ghost", "flood", "pbs"):
        assert part in caught.value.seen


@pytest.mark.parametrize("wrong", [{"people": 0}, {"seconds": 5 * 3600}, {"timeout_s": 0}])
def test_a_plan_has_bounds(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        plan(site(), own=True, **wrong)


def test_only_who_has_a_password_logs_in() -> None:
    at = site(passwords=1, tokens=3)
    assert len(suitable(at, ("script",))) == 4
    assert [p.name for p in suitable(at, ("script", "newcomer"))] == ["p0"]
    with pytest.raises(UsageError) as caught:
        plan(at, behaviours=("returning",), people=2)
    assert "need a password" in caught.value.seen


# Clocks


@pytest.mark.parametrize(
    ("ours", "theirs", "agree"),
    [
        ([1.0, 1.0], 2.0, True),
        ([1.0, 1.19], 2.0, True),  # just under 10 % apart in the mean
        ([1.0, 1.3], 2.0, False),
        ([0.1, 0.18], 0.2, True),  # 40 ms: less than 50, though more than 10 %
        ([0.1, 0.24], 0.2, False),
    ],
)
def test_clocks_may_differ_by_a_tenth_or_50_ms(
    ours: list[float], theirs: float, agree: bool
) -> None:
    """The span is accepted → HTTP up, in count and mean, as the hub's own metric has it."""
    records = [
        record(own_unix_s={"click": 0.0, "accepted": 10.0, "http": 10.0 + span}) for span in ours
    ]
    clock = compare_clocks(records, Spread(len(ours), theirs))
    failures = bench_load.clock_failures(clock)
    assert (not failures) == agree, failures


def test_clocks_of_other_spawns_disagree() -> None:
    records = [record(own_unix_s={"click": 0.0, "accepted": 0.0, "http": 1.0})]
    clock = compare_clocks(records, Spread(2, 2.0))
    assert "1 spawns, the hub's own metric 2" in bench_load.clock_failures(clock)[0]
    assert bench_load.clock_failures(clock, alone=False) == []  # others spawn there too


# Files and jobs


def test_a_record_cut_off_or_of_another_version_is_counted_and_not_read() -> None:
    good = record(own_unix_s={"click": 1.0}).model_dump_json()
    text = f"{good}\n" + good.replace('"user"', '"person"') + f"\n{good[:40]}\n{good}"
    found, broken = read_records(text)
    assert (len(found), broken) == (2, 2)


def test_job_gone_is_stamped_when_no_look_shows_the_job() -> None:
    job = Job("slurm", "7", "alice", "completing", "hpc-1", "alice/load")
    looks = iter([[job], [job], []])
    watch = JobWatch(lambda: next(looks))
    watch.add(record(backend="slurm", job_id="7", own_unix_s={"click": 1.0, "gone": 2.0}))
    watch.add(record(backend="local", job_id="8", own_unix_s={"click": 1.0, "gone": 2.0}))
    watch.look()
    assert (watch.waiting, str(watch)) == (1, "slurm job 7 of alice")
    watch.look()
    assert "job_gone" not in watch.records[0].own_unix_s
    watch.look()
    assert watch.waiting == 0
    assert watch.records[0].own_unix_s["job_gone"] > 2.0
    assert "job_gone" not in watch.records[1].own_unix_s
    watch.look()  # nothing to ask for: the queues are left alone


# Notes of open visits


def client(name: str) -> HubClient:
    return HubClient("https://hub.example.org", name, Secret("t0ken"), token_id="a7")


def test_a_note_reads_back_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    with OpenVisits.of_a_run(tmp_path, "run") as (notes, _):
        note = notes.note(client("alice"), "", record())
        assert note.path.stat().st_mode & 0o777 == 0o600
        assert note.path.parent.stat().st_mode & 0o777 == 0o700
        notes.update(note, record(behaviour="leaver"))
        (found,) = notes.left()
        assert (found.client.url, found.client.user) == ("https://hub.example.org", "alice")
        assert (found.client.token, found.client.token_id) == ("t0ken", "a7")
        assert (found.record.behaviour, found.server) == ("leaver", "")
        assert notes.done(note)
        assert not notes.done(note)  # of two who end it, one tells
        assert notes.left() == []
    assert list(tmp_path.iterdir()) == []


def test_only_a_dead_runs_notes_are_anybodys_to_sweep(tmp_path: Path) -> None:
    """The lock lives as long as any process of the run; a folder with notes stays."""
    with OpenVisits.of_a_run(tmp_path, "run") as (notes, _):
        notes.note(client("alice"), "", record())
        assert OpenVisits.of_dead_runs(tmp_path) == []
    (dead,) = OpenVisits.of_dead_runs(tmp_path)
    assert [note.client.user for note in dead.left()] == ["alice"]
    dead.remove()
    assert OpenVisits.of_dead_runs(tmp_path) == []


def test_notes_that_cannot_be_kept_are_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    run = OpenVisits.of_a_run(tmp_path / "file", "run")
    with pytest.raises(UsageError, match="cannot be kept"), run:
        pass
