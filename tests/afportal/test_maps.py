"""A map keeps what is finished, says what is not, and finds its jobs again."""

from __future__ import annotations

import errno
import json
import linecache
import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from afportal import cli, maps
from afportal.jobs.access_point import state_of
from afportal.jobs.errors import Refused, SchedulerAway, WrongRequest
from afportal.jobs.states import JobState, State
from afportal.maps import by_value, collect, folder, plan, report, runner
from afportal.maps.folder import MapFolder
from afportal.maps.picked_up import Map
from afportal.maps.plan import MapOptions
from tests.afportal.map_fakes import (
    AnswerLostScheduler,
    AwayScheduler,
    JobsHere,
    RefusingScheduler,
    SmallArraysScheduler,
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(collect, "GRACE_S", 0.0)
    return tmp_path


def made(function: Any, inputs: Any, tag: str = "t", jobs: Any = JobsHere, **options: Any) -> Any:
    """Return (map, its jobs), submitted."""
    found = plan.make(
        function, [((each,), {}) for each in inputs], tag=tag, scheduler="htcondor",
        options=MapOptions(**options), spool=False,
    )  # fmt: skip
    there = jobs(found)
    one = Map(found, there)
    one.submit()
    return one, there


def inverse(x: float) -> float:
    return 1 / x


def test_values_arrive_in_order_and_wrong_ones_say_why() -> None:
    """Finished calls have their values; one that raised raises here with its remote traceback."""
    offset = 3
    one, jobs = made(lambda x: offset + 12 / x, [4, 0, 2])
    jobs.run()
    assert one.partial() == {0: 6.0, 2: 9.0}
    assert one.status() == {State.COMPLETED: 2, State.FAILED: 1}
    assert (one[0], one[-1]) == (6.0, 9.0)
    with pytest.raises(maps.CallFailed, match="ZeroDivisionError: division by zero") as failed:
        one.wait(10)
    assert failed.value.call == 1
    assert "offset + 12 / x" in str(failed.value)
    assert "runner.py" not in one.error_report()


def test_what_failed_is_made_again_and_nothing_else(home: Path) -> None:
    """A rerun sends the failed calls alone; values from before stay."""
    mark = home / "mark"

    def f(x: int) -> int:
        if x in (2, 5) and not mark.exists():
            raise ValueError(f"planted {x}")
        return x * x

    one, jobs = made(f, range(8))
    jobs.run()
    before = (one._folder.results / "3").stat().st_mtime_ns
    assert [call.number for call in one.errors()] == [2, 5]
    mark.touch()
    assert one.rerun() == 2
    assert jobs.sent[-1].calls == "2,5"
    assert one.status() == {State.COMPLETED: 6, State.IDLE: 2}
    jobs.run()
    assert list(one) == [x * x for x in range(8)]
    assert (one._folder.results / "3").stat().st_mtime_ns == before
    assert one.rerun() == 0


def test_a_map_is_picked_up_by_its_tag() -> None:
    """Another process finds inputs, results and jobs by the tag alone."""
    one, jobs = made(inverse, [1, 2, 4])
    jobs.run(0, 1)
    assert maps.tags() == ["t"]
    again = Map(MapFolder.of("t"), jobs)
    again.resume()
    assert again.partial() == {0: 1.0, 1: 0.5}
    assert again.states()[2] is State.IDLE
    assert again.ids == one.ids == ["100"]


def test_a_taken_tag_leaves_the_first_map_alone() -> None:
    """A second map of the same tag is refused with the ways on, and leaves nothing behind."""
    one, jobs = made(inverse, [1])
    jobs.run()
    with pytest.raises(maps.TagTaken, match=r"maps.load\('t'\).*maps.remove"):
        made(inverse, [2])
    assert list(one) == [1.0]
    assert [p.name for p in folder.maps_folder().iterdir()] == ["t"]


@pytest.mark.parametrize("tag", ["", "../x", "a b", ".hidden", "a/b", "x" * 81])
def test_a_tag_that_is_no_name_is_refused(tag: str) -> None:
    """A tag cannot lead out of the folder of maps."""
    with pytest.raises(WrongRequest, match="letters, digits"):
        MapFolder.of(tag)


def test_what_cannot_be_sent_is_named() -> None:
    """An unpicklable function or input is refused by name before anything is kept."""
    lock = threading.Lock()

    def f(x: int) -> Any:
        return lock, x

    with pytest.raises(maps.NotPicklable, match=r"function .*f.* cannot be sent.*inside the"):
        made(f, [1])
    with pytest.raises(maps.NotPicklable, match="input 1 of 2"):
        made(inverse, [1, lock])
    assert maps.tags() == []


@pytest.mark.parametrize(
    ("function", "said", "cure"),
    [
        (lambda _x: __import__("no_such_module"), "no_such_module", "the worker has no module"),
        (lambda _x: bytes(3 * 2**20), "3.0 MiB; result_limit_mib allows 2", "return its path"),
        (lambda _x: threading.Lock(), "cannot pickle", ""),
        (lambda _x: sys.exit("leaves"), "SystemExit: leaves", ""),
    ],
)
def test_a_call_that_cannot_end_well_says_so(function: Any, said: str, cure: str) -> None:
    """Each is an error of its call, with what one does about it, and the job's others go on."""
    one, jobs = made(function, [1, 2], calls_per_job=2, result_limit_mib=2)
    (done,) = jobs.run()
    assert done.returncode == 0
    assert one.status() == {State.FAILED: 2}
    assert said in one.error_report()
    assert cure in one.error_report()


def test_a_function_whose_module_is_gone_fails_each_call(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A function that a worker cannot import is told with the module's name."""
    (home / "beside.py").write_text("def f(x):\n    return x\n")
    monkeypatch.syspath_prepend(str(home))
    import beside  # type: ignore[import-not-found]

    one, jobs = made(beside.f, [7, 8])
    jobs.run(0)
    assert one[0] == 7
    (home / "beside.py").unlink()
    jobs.run(1)
    assert "the worker has no module beside" in one.error_report()


def test_no_room_for_a_result_loses_no_other() -> None:
    """A result that cannot be written ends its job by a code that is told in words."""
    one, jobs = made(inverse, [1, 2, 4], calls_per_job=3)
    full = one._folder.results / "1"
    full.mkdir()
    (full / "in the way").touch()  # a rename onto it fails as a write to a full disk does
    (done,) = jobs.run()
    assert done.returncode == runner.NO_ROOM
    assert "result of call 1 could not be written" in done.stderr
    assert not list(one._folder.results.glob(".*"))
    (full / "in the way").unlink()
    full.rmdir()
    assert one.states() == [State.COMPLETED, State.FAILED, State.FAILED]
    assert "make room in your home" in one.error_report()


def test_a_full_home_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inputs that do not fit are refused in words, and what was written of them is gone."""

    def full(path: Path, _inputs: Any) -> None:
        path.write_bytes(b"some")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(folder, "_write_inputs", full)
    with pytest.raises(maps.NoRoom, match=r"No space left.*nothing was submitted"):
        made(inverse, [1])
    assert not [*folder.maps_folder().iterdir()]


def test_a_scheduler_that_is_away_loses_no_map() -> None:
    """The map is kept, says that it was not sent, and is sent once the scheduler is back."""
    with pytest.raises(maps.NotSubmitted, match=r"kept.*maps.load\('t'\).rerun\(\)"):
        made(inverse, [1, 2], jobs=AwayScheduler)
    away = Map(MapFolder.of("t"), AwayScheduler(MapFolder.of("t")))
    with pytest.raises(SchedulerAway):
        away.rerun()  # whether it has the jobs already must be known first
    jobs = JobsHere(MapFolder.of("t"))
    back = Map(MapFolder.of("t"), jobs)
    assert back.status() == {State.UNSUBMITTED: 2}
    assert back.rerun() == 2
    jobs.run()
    assert list(back) == [1.0, 0.5]


def test_jobs_whose_answer_was_lost_are_not_sent_twice() -> None:
    """What the scheduler took is found again by its name, and runs once."""
    found = plan.make(
        inverse, [((1,), {})], tag="t", scheduler="htcondor", options=MapOptions(), spool=False
    )
    jobs = AnswerLostScheduler(found)
    with pytest.raises(maps.NotSubmitted):
        Map(found, jobs).submit()
    again = Map(MapFolder.of("t"), jobs)
    assert again.rerun() == 0
    assert again.ids == ["77"]
    assert again.states() == [State.IDLE]


def test_a_refused_submission_leaves_no_trace() -> None:
    """What the scheduler refuses is not taken for sent."""
    with pytest.raises(Refused):
        made(inverse, [1], jobs=RefusingScheduler)
    assert MapFolder.of("t").submissions() == []


def test_a_large_map_is_several_submissions() -> None:
    """Each as large as the scheduler takes it; results are in order, deeds go to all of them."""
    _, jobs = made(inverse, [1, 2, 0, 4, 5, 8, 10, 20], jobs=SmallArraysScheduler)
    assert [s.calls for s in jobs.sent] == ["0-2", "3-5", "6-7"]
    again = Map(MapFolder.of("t"), jobs)
    again.resume()
    assert again.ids == ["100", "101", "102"]
    assert (again.hold(), again.set_memory(256)) == (8, 8)
    jobs.run_of(jobs.sent[2])
    jobs.run_of(jobs.sent[0])
    assert again.partial() == {0: 1.0, 1: 0.5, 6: 0.1, 7: 0.05}
    assert again.status() == {State.IDLE: 3, State.COMPLETED: 4, State.FAILED: 1}
    assert again.remove_jobs() == 3
    assert jobs.deeds[-1] == ("remove", {(1, 0), (1, 1), (1, 2)})
    jobs.run_of(jobs.sent[1])
    assert again.rerun([2]) == 1
    assert [s.calls for s in jobs.sent[3:]] == ["2"]
    assert [again[n] for n in (0, 1, 3, 4, 5, 6, 7)] == [1.0, 0.5, 0.25, 0.2, 0.125, 0.1, 0.05]


def test_jobs_of_several_calls_are_split_between_jobs() -> None:
    """No job is divided between two submissions."""
    _, jobs = made(abs, range(14), jobs=SmallArraysScheduler, calls_per_job=4)
    assert [s.jobs() for s in jobs.sent] == [
        [(0, 1, 2, 3), (4, 5, 6, 7), (8, 9, 10, 11)],
        [(12, 13)],
    ]


@pytest.mark.parametrize("then", [Refused, SchedulerAway])
def test_what_is_sent_of_a_large_map_goes_on(
    monkeypatch: pytest.MonkeyPatch, then: type[Exception]
) -> None:
    """Where only the first part is taken the map is kept, and a rerun sends the others alone."""
    monkeypatch.setattr(SmallArraysScheduler, "times", 1)
    monkeypatch.setattr(SmallArraysScheduler, "then", then)
    with pytest.raises(maps.NotSubmitted, match=r"kept, 3 of 5 calls are sent: no more.*rerun"):
        made(inverse, [1, 2, 4, 5, 8], jobs=SmallArraysScheduler)
    jobs = JobsHere(MapFolder.of("t"))
    jobs.states = {(0, n): JobState(State.IDLE) for n in range(3)}
    again = Map(MapFolder.of("t"), jobs)
    again.resume()
    assert again.status() == {State.IDLE: 3, State.UNSUBMITTED: 2}
    assert again.rerun() == 2
    assert [s.calls for s in jobs.sent] == ["3-4"]


def test_a_job_that_ends_without_a_result_is_a_failure() -> None:
    """Killed from outside, it is told with the scheduler's reason and the cure."""
    one, jobs = made(inverse, [1, 2, 3])
    jobs.states[0, 0] = JobState(State.FAILED, "out of memory: memory_mib is the limit", "n1")
    jobs.states[0, 1] = JobState(State.REMOVED, "by a friend")
    jobs.states[0, 2] = JobState(State.HELD, "memory usage exceeded request_memory")
    assert one.states() == [State.FAILED, State.REMOVED, State.HELD]
    assert "set_memory(MiB), then rerun()" in one.error_report()
    assert "set_memory(MiB), then release()" in one.hold_report()
    with pytest.raises(maps.CallFailed, match="3 of 3 calls have no value"):
        one.wait(5)
    assert one.set_memory(2048) == 1
    assert one.release() == 1
    assert jobs.deeds == [("memory_mib=2048", {(0, 2)}), ("release", {(0, 2)})]
    assert Map(MapFolder.of("t"), jobs).options.memory_mib == 2048


def test_a_wait_ends_and_says_what_is_missing() -> None:
    """A wait raises after its time with the numbers; the jobs go on."""
    one, jobs = made(inverse, [1, 2])
    jobs.run(0)
    with pytest.raises(maps.NotInTime, match="1 idle, 1 completed"):
        one.wait(0.05)


def test_results_are_given_as_they_arrive() -> None:
    """Iteration gives what is there, and raises for what failed only at the end."""
    one, jobs = made(inverse, [1, 0, 2])
    jobs.run(2)
    given = one.iter_as_available(30)
    assert next(given) == (2, 0.5)
    jobs.run(0, 1)
    assert next(given) == (0, 1.0)
    with pytest.raises(maps.CallFailed, match="1 of 3"):
        next(given)


def test_a_call_that_waits_is_not_made_again() -> None:
    """A rerun of what may still come is refused."""
    one, _ = made(inverse, [1, 2])
    with pytest.raises(WrongRequest, match="calls 1 of map t wait or run"):
        one.rerun([1])


def test_retag_and_remove() -> None:
    """A new tag finds the same results; a removed map ends its jobs and is gone."""
    one, jobs = made(inverse, [1, 2])
    with pytest.raises(WrongRequest, match="write into its folder"):
        one.retag("u")
    jobs.run()
    one.retag("u")
    assert (maps.tags(), list(one)) == (["u"], [1.0, 0.5])
    other, there = made(inverse, [1])
    other.remove()
    assert there.deeds == [("remove", {(0, 0)})]
    assert maps.tags() == ["u"]
    with pytest.raises(maps.NoSuchMap, match="there are: u"):
        maps.load("t")


@pytest.mark.parametrize("calls", [[0], [3, 1, 2], [0, 1, 5, 7, 8, 9], [12, 10]])
def test_numbers_are_ranges_and_back(calls: list[int]) -> None:
    """What a job is told of its calls is what it makes."""
    assert [*runner.numbers(folder.ranges(calls))] == sorted(calls)


def test_a_wrong_option_is_named_with_what_is_possible() -> None:
    """An unknown option is told with its neighbour and all that there are."""
    with pytest.raises(WrongRequest) as refused:
        maps.map(inverse, [1], memory=5, cores=0)
    assert "memory: there is no such field; did you mean memory_mib?" in str(refused.value)
    assert "cores: 0 asked" in str(refused.value)
    assert maps.tags() == []


def test_a_container_is_named() -> None:
    """A kernel in a container cannot start a map, and is told why."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("APPTAINER_CONTAINER", "/images/x.sif")
        with pytest.raises(maps.NotHere, match=r"/images/x.sif"):
            made(inverse, [1])


def test_states_of_ads() -> None:
    """A job ad is read as words of either scheduler."""
    ad = {"JobStatus": 5, "HoldReason": "why", "LastRemoteHost": "slot1_1@ep-1"}
    assert state_of(ad) == JobState(State.HELD, "why", "ep-1")
    assert state_of({"JobStatus": 4, "ExitCode": 3, "ExitBySignal": False}).reason == "exit code 3"
    assert state_of({"JobStatus": 4, "ExitBySignal": True, "ExitSignal": 9}).state is State.FAILED
    assert state_of({"JobStatus": 6}).state is State.RUNNING
    assert state_of({"JobStatus": 5, "HoldReasonCode": 16}).state is State.IDLE


def test_html_shows_data_as_text() -> None:
    """What a call said cannot become part of the page."""
    seen = collect.Seen((collect.Call(0, State.FAILED, "<script>alert(1)</script>"),))
    shown = report.html("t", "f", "slurm", seen)
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown


def test_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    """It lists maps, tells errors by exit code and words, and forgets by tag."""
    assert cli.main(["maps", "ls"]) == 0
    assert "no maps yet" in capsys.readouterr().out
    one, jobs = made(inverse, [1, 0])
    jobs.run()
    one._folder.submissions()
    assert cli.main(["maps", "status", "t", "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert (told["tag"], told["calls"]) == ("t", 2)
    assert told["states"] == {"completed": 1, "failed": 1}
    assert cli.main(["maps", "errors", "t"]) == 1
    assert "ZeroDivisionError" in capsys.readouterr().out
    assert cli.main(["maps", "rm", "nothing"]) == 1
    assert "there is no map nothing" in capsys.readouterr().err
    assert cli.main(["maps", "rm", "t"]) == 0
    assert maps.tags() == []


NOTEBOOK = """
import math as m
import sys
OFFSET = [1, 2]

def helper(x, *, more=10):
    return m.floor(x) + more

def f(x, y=100):
    if x > 3:
        return f(x - 1)
    inner = lambda z: helper(z) + OFFSET[1]
    return inner(x) + y, "cloudpickle" in sys.modules, sys.modules[__name__] is not None

class Box:
    def __init__(self, x):
        self.x = x

def boxed(x):
    return Box(x).x

def closed():
    here = 5
    return lambda x: x + here

g = closed()

def wrong(x):
    return helper(
        "no number")
"""


@pytest.fixture
def notebook() -> dict[str, Any]:
    """Functions as a notebook's cells define them."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(NOTEBOOK, "cell", "exec"), namespace)  # noqa: S102 - the cells above
    linecache.cache["cell"] = (len(NOTEBOOK), None, NOTEBOOK.splitlines(keepends=True), "cell")
    return namespace


def test_a_plain_function_needs_no_cloudpickle_on_the_worker(notebook: dict[str, Any]) -> None:
    """A function with helpers, modules, data, defaults and itself travels as code."""
    assert by_value.plain(notebook["f"]) is not None
    one, jobs = made(notebook["f"], [2.5, 5])
    jobs.run()
    assert list(one) == [(114, False, True), (115, False, True)]


def test_its_traceback_has_the_notebooks_lines(notebook: dict[str, Any]) -> None:
    """What has no file on the worker is told with the lines of the notebook."""
    one, jobs = made(notebook["wrong"], [1])
    jobs.run()
    report = one.error_report()
    assert "return helper(" in report
    assert "return m.floor(x) + more" in report
    assert "TypeError" in report


@pytest.mark.parametrize(("name", "value"), [("boxed", 7), ("g", 12)])
def test_what_is_not_plain_travels_by_cloudpickle(
    notebook: dict[str, Any], name: str, value: int
) -> None:
    """Classes of the notebook and closures are sent all the same."""
    assert by_value.plain(notebook[name]) is None
    one, jobs = made(notebook[name], [7])
    jobs.run()
    assert list(one) == [value]
