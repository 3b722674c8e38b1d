"""A job's fields are data and are named when wrong; what schedulers say is read right."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from afportal import jobs
from afportal.jobs import access_point, cluster, display
from afportal.jobs import job as one_job
from afportal.jobs.cluster import Batch, Cluster
from afportal.jobs.fields import JobFields, Resources, checked
from afportal.jobs.passed_on import variables, wants_token
from afportal.jobs.states import JobState, State

WILD = ["a b", "$(touch x)", "`id`", "'", '"', "%a", "a;b|c", "$HOME", "ü"]


class RecordingSlurm:
    """Answers as Slurm's commands did, and keeps what they were called with."""

    def __init__(self, folder: Path, answer: str = "42\n", code: int = 0, error: str = "") -> None:
        self.seen = folder / "seen"
        self.given = folder / "given"
        for name in ("sbatch", "squeue", "scancel", "scontrol", "sacct"):
            (folder / name).write_text(
                "#!/usr/bin/python3\nimport json, os, sys\n"
                f"with open({str(self.seen)!r}, 'a') as file:\n"
                "    print(json.dumps([sys.argv, dict(os.environ)]), file=file)\n"
                "if 'sbatch' in sys.argv[0]:\n"
                f"    open({str(self.given)!r}, 'w').write(sys.stdin.read())\n"
                f"sys.stdout.write({answer!r}); sys.stderr.write({error!r}); sys.exit({code})\n"
            )
            (folder / name).chmod(0o755)

    def calls(self) -> list[tuple[list[str], dict[str, str]]]:
        return [tuple(json.loads(line)) for line in self.seen.read_text().splitlines()]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_unknown_fields_are_named_with_what_is_possible() -> None:
    """Every wrong field is told at once: its name, what was asked, what there is."""
    with pytest.raises(jobs.WrongRequest) as refused:
        jobs.Job({"Executable": "/bin/true", "memory": 5, "cores": 0, "arguments": ["a\nb"]})
    said = str(refused.value)
    for words in (
        "Executable: there is no such field; did you mean executable?",
        "memory: there is no such field; did you mean memory_mib?",
        "executable: Field required",
        "cores: 0 asked",
        "a control character",
        "runtime_min",
    ):
        assert words in said
    with pytest.raises(jobs.WrongRequest, match="'pbs' asked; possible are htcondor, slurm"):
        jobs.Job(executable="/bin/true", scheduler="pbs")


def test_what_slurm_is_told_is_data(home: Path) -> None:
    """Arguments, names and folders reach sbatch as they are, and the script as literals."""
    slurm = RecordingSlurm(home)
    where = home / "100% $(x) 'y'"
    where.mkdir()
    job = jobs.Job(
        executable="/bin/echo", arguments=WILD, scheduler="slurm", directory=str(where),
        environment={"WILD": "$(x) ,b"}, output="out %j", runtime_min=3, partition="short",
    ).submit()  # fmt: skip
    assert job.id == "42"
    ((argv, environment),) = slurm.calls()
    assert f"--chdir={where}" in argv
    assert f"--output={str(where).replace('%', '%%')}/out %%j" in argv
    assert {"--time=3", "--partition=short", "--export=ALL", "--mem=512"} <= {*argv}
    assert environment["WILD"] == "$(x) ,b"
    script = slurm.given.read_text()
    body = script.partition("\n")[2]
    names: dict[str, object] = {}
    exec(body.partition("os.execv")[0], names)  # noqa: S102 - the job's own script
    assert names["argv"] == ["/bin/echo", *WILD]
    assert jobs.load("42", "slurm").fields == job.fields


def test_what_htcondor_is_told_is_data() -> None:
    """The same at HTCondor: literals of ClassAds, no macro expanded."""
    htcondor2 = pytest.importorskip("htcondor2")
    classad2 = pytest.importorskip("classad2")
    point = access_point.AccessPoint("sched@none")
    asked = Resources(environment={"WILD": " ".join(WILD)}, runtime_min=2, data_token=True)
    lines = point.resources(asked)
    submit = htcondor2.Submit(lines)
    raw = submit["My.Environment"].replace("$(DOLLAR)", "$")
    text = str(classad2.ExprTree(raw).eval())
    assert f"WILD='{' '.join(WILD).replace(chr(39), chr(39) * 2)}'" in text
    assert lines["allowed_job_duration"] == "120"
    assert lines["My.OAuthServicesNeeded"] == '"data"'
    with pytest.raises(jobs.WrongRequest, match="qos: 'long' asked; HTCondor has none"):
        point.resources(Resources(qos="long"))


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        ("sbatch: error: Unable to contact slurm controller (connect failure)",
         jobs.SchedulerAway, "does not answer"),
        ("sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed: "
         "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
         jobs.Refused, "calls_per_job=10"),
        ("sbatch: error: Batch job submission failed: Invalid job array specification",
         jobs.Refused, "MaxArraySize"),
        ("sbatch: error: invalid partition specified: nothing", jobs.Refused, "nothing"),
    ],
)  # fmt: skip
def test_a_refusal_is_told_with_its_cure(
    home: Path, error: str, kind: type[Exception], words: str
) -> None:
    """A controller that is away and one that refuses are told apart, limits with the way on."""
    RecordingSlurm(home, "", 1, error)
    with pytest.raises(kind, match=words):
        Cluster().submit(Batch("n", "s", "/", "/o"), Resources())


@pytest.mark.parametrize(
    ("said", "largest"),
    [("MaxArraySize            = 1001\n", 1001), ("", None)],
)
def test_how_large_an_array_may_be_is_asked(home: Path, said: str, largest: int | None) -> None:
    """As the controller has it now; a person's own slurm.conf may be another."""
    slurm = RecordingSlurm(home, f"MailProg                = /bin/true\n{said}MaxDBDMsgs = 20024\n")
    assert Cluster().largest_array() == largest
    assert slurm.calls()[0][0][1:] == ["show", "config"]


def test_a_session_without_slurm_is_told_so(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no sbatch the message says where there is one."""
    monkeypatch.setenv("PATH", str(home))
    with pytest.raises(jobs.NotHere, match=r"no sbatch.*inside a container"):
        jobs.Job(executable="/bin/true", scheduler="slurm").submit()
    assert not one_job.jobs_folder().exists() or not [*one_job.jobs_folder().iterdir()]


def test_a_program_that_is_not_there_is_named() -> None:
    """A program is looked for before anything is submitted."""
    with pytest.raises(jobs.WrongRequest, match="'no-such-program' asked; it is not on PATH"):
        jobs.Job(executable="no-such-program", scheduler="slurm").submit()
    with pytest.raises(jobs.WrongRequest, match="directory: '/no/where' asked"):
        jobs.Job(executable="/bin/true", directory="/no/where", scheduler="slurm").submit()


@pytest.mark.parametrize(
    ("native", "reason", "code", "state"),
    [
        ("PENDING", "Priority", "0", JobState(State.IDLE, "Priority")),
        ("PENDING", "JobHeldUser", "0", JobState(State.HELD, "JobHeldUser")),
        ("PENDING", "job requeued in held state", "0",
         JobState(State.HELD, "job requeued in held state")),
        ("RUNNING", "None", "0", JobState(State.RUNNING)),
        ("COMPLETED", "None", "0:0", JobState(State.COMPLETED, exit_code=0)),
        ("FAILED", "NonZeroExitCode", "3:0", JobState(State.FAILED, "exit code 3", "", 3)),
        ("FAILED", "", "0:9", JobState(State.FAILED, "ended by signal 9", "", 0)),
        ("CANCELLED", "None", "0:15", JobState(State.REMOVED)),
        ("NODE_FAIL", "None", "0:0", JobState(State.FAILED, "its node failed", "", 0)),
        ("REQUEUE_HOLD", "None", "0:0", JobState(State.HELD)),
    ],
)  # fmt: skip
def test_states_of_slurm(native: str, reason: str, code: str, state: JobState) -> None:
    """Slurm's states are read as words of either scheduler."""
    assert cluster._state(native, reason, "", code) == state


def test_only_what_finds_programs_is_passed_on() -> None:
    """No variable of the session's own reaches a job, and no secret."""
    environ = {
        "PATH": "/bin", "HOME": "/home/a", "JUPYTERHUB_API_TOKEN": "secret",
        "BEARER_TOKEN_FILE": "/s/token", "LD_LIBRARY_PATH": "/l\n",
    }  # fmt: skip
    given = variables({"OWN": "1", "PATH": "/mine"}, environ)
    assert given == {"PATH": "/mine", "HOME": "/home/a", "OWN": "1"}
    assert wants_token(None, environ)
    assert not wants_token(False, environ)
    assert not wants_token(None, {})


def test_a_table_shows_output_as_text(home: Path) -> None:
    """What a job printed cannot become part of the page."""
    RecordingSlurm(home)
    job = jobs.Job(executable="/bin/true", scheduler="slurm").submit()
    (job.folder / "output").write_text("<script>x</script>")
    job.learn(JobState(State.FAILED, "exit code 3", "node1", 3))
    shown = display.table([job])
    assert "&lt;script&gt;" in shown
    assert "<script>" not in shown
    for words in ("42", "failed", "exit code 3", "node1"):
        assert words in shown


def test_defaults_are_small() -> None:
    """A job that asks for nothing takes little."""
    fields = checked(JobFields, {"executable": "/bin/true"})
    assert (fields.cores, fields.memory_mib, fields.gpus) == (1, 512, 0)
