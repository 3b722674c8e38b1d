"""What reaches the schedd is data, and what it says is told apart."""

from __future__ import annotations

import classad2
import htcondor2
import pytest

from afportal.backends import Cause, Ending, JobRequest, Standing
from afportal.backends.htcondor import (
    HTCondorBackend,
    _ending,
    _sinful_host,
    _status,
)
from afportal.submit_description import literal


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> HTCondorBackend:
    settings = HTCondorBackend.Settings(
        kind="htcondor",
        schedd="sched@condor-ap-hub",
        collector="condor-cm",
        credd="condor-ap-hub:9620",
        token_directory=tmp_path_factory.mktemp("tokens"),
        domain="af.test",
    )
    return HTCondorBackend(settings, name="htcondor", cell="hub")


def request(**change: object) -> JobRequest:
    fields: dict[str, object] = {
        "person": "alice",
        "home": "/home/alice",
        "server": "alice/",
        "cell": "hub",
        "code": "c" * 43,
        "argv": ("/opt/envs/notebook/bin/python", "-I", "-m", "afportal.session"),
        "cores": 1,
        "memory_mib": 1536,
        "runtime_min": 60,
        "reserved": True,
    }
    return JobRequest(**{**fields, **change})  # type: ignore[arg-type]


def test_the_code_is_not_in_the_submit_description(backend: HTCondorBackend) -> None:
    """A job ad can be read by others; the one-time code is not in it."""
    lines = backend._description(request(), "0123")
    assert "c" * 43 not in str(lines)
    assert "c" * 43 not in repr(request())
    assert lines["My.Owner"] == '"alice"'
    assert lines["My.IsNotebook"] == "True"


@pytest.mark.parametrize(
    "text", ['a"b', "a'b", "$(HOME)", "$ENV(HOME)", "a\\b", "$$(Cpus)", "a;b|c", "ü"]
)
def test_any_text_is_a_literal(text: str) -> None:
    """Text comes out of a submit description as it went in, macros and quotes included."""
    submit = htcondor2.Submit({"executable": "/bin/true", "My.Text": literal(text)})
    raw = submit["My.Text"].replace("$(DOLLAR)", "$")
    assert classad2.ExprTree(raw).eval() == text


@pytest.mark.parametrize("text", ["a\nqueue 1000", "a\rb", "a\0b"])
def test_a_line_break_is_refused(backend: HTCondorBackend, text: str) -> None:
    """Nothing can add a line to the submit description."""
    with pytest.raises(ValueError, match="control character"):
        literal(text)
    with pytest.raises(ValueError, match="cannot stand"):
        backend._description(request(account=text), "0123")


def test_states_are_told_apart() -> None:
    """Held, transferring, suspended and removed are not 'gone'."""
    seen = {
        number: _status(
            classad2.ClassAd({"ClusterId": 7, "ProcId": 0, "JobStatus": number, "AfServer": "a/"})
        ).standing
        for number in range(1, 8)
    }
    assert seen == {
        1: Standing.PENDING,
        2: Standing.RUNNING,
        3: Standing.ENDING,
        4: Standing.ENDING,
        5: Standing.HELD,
        6: Standing.ENDING,
        7: Standing.SUSPENDED,
    }


def test_a_hold_carries_its_reason() -> None:
    """A person reads the scheduler's own words and code."""
    ad = classad2.ClassAd(
        {
            "ClusterId": 7,
            "ProcId": 0,
            "JobStatus": 5,
            "HoldReason": "memory usage exceeded",
            "HoldReasonCode": 3,
        }
    )
    assert _status(ad).reason == "memory usage exceeded (code 3)"


def test_a_memory_hog_is_told_its_real_limit() -> None:
    """HTCondor names the request as the limit; the person is told where the job was stopped."""
    ad = classad2.ClassAd(
        {
            "ClusterId": 7,
            "ProcId": 0,
            "JobStatus": 5,
            "HoldReasonCode": 34,
            "AfMemoryLimitMiB": 4608,
        }
    )
    assert _status(ad).reason.startswith("out of memory: more than 4608 MiB used")


@pytest.mark.parametrize(
    ("ad", "ending"),
    [
        ({"ExitCode": 3, "ExitBySignal": False}, Ending(Cause.EXITED, "exit code 3")),
        ({"ExitBySignal": True, "ExitSignal": 9, "ResidentSetSize": 125000,
          "ResidentSetSize_RAW": 102401},
         Ending(Cause.EXITED, "signal 9", 101)),
        ({"RemoveReason": "via condor_rm (by user root)"},
         Ending(Cause.REMOVED, "removed: via condor_rm (by user root)")),
        ({"RemoveReason": "The job attribute PeriodicRemove expression '…' evaluated to TRUE"},
         Ending(Cause.NODE,
                "removed: The job attribute PeriodicRemove expression '…' evaluated to TRUE")),
        ({"RemoveReason": "by the hub", "HoldReasonCode": 34},
         Ending(Cause.MEMORY, "removed: by the hub")),
        ({"LastHoldReasonCode": 46, "LastHoldReason": "too long"}, Ending(Cause.TIME, "too long")),
        ({}, Ending()),
    ],
)  # fmt: skip
def test_an_end_is_told_in_words(ad: dict[str, object], ending: Ending) -> None:
    """Exit code, signal, memory, time, and who removed it are told apart."""
    assert _ending(classad2.ClassAd(ad)) == ending


@pytest.mark.parametrize(
    ("sinful", "host"),
    [
        ("<172.23.0.9:42633?addrs=172.23.0.9-42633&alias=ep>", "172.23.0.9"),
        ("<[2001:db8::1]:9618?x=y>", "2001:db8::1"),
        ("", ""),
    ],
)
def test_the_host_comes_from_the_daemons_address(sinful: str, host: str) -> None:
    """The execution point's address is read from its own string."""
    assert _sinful_host(sinful) == host


def test_a_running_job_says_when_it_ends() -> None:
    """From its start on, by the duration that it is allowed; a waiting one has no end yet."""
    job = {"ClusterId": 7, "ProcId": 0, "JobStatus": 2, "AllowedJobDuration": 3600}
    running = classad2.ClassAd({**job, "JobCurrentStartDate": 1_800_000_000})
    assert _status(running).ends_s == 1_800_003_600
    assert _status(classad2.ClassAd({**job, "JobStatus": 1})).ends_s is None
