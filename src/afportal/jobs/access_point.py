"""HTCondor as oneself: people's access point, by the token that the session keeps fresh.

Which access point, and whether it shares files with us, is the site's to say, in HTCondor's own
configuration: `SCHEDD_HOST`, and `AF_SPOOL_JOBS = True` where jobs must be spooled. A session
whose jobs go elsewhere than its node's has both in its environment: docs/elastic.md.

Source: HTCondor 23.9 manual, condor_submit(1), job ClassAd attributes; htcondor2 25.14.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from afportal.job_token import SERVICE
from afportal.jobs import passed_on
from afportal.jobs.errors import NotHere, Refused, SchedulerAway, WrongRequest
from afportal.jobs.fields import Resources
from afportal.jobs.states import JobState, State

if TYPE_CHECKING:
    import htcondor2

T = TypeVar("T")

# The attributes that `state_of` reads.
PROJECTION = [
    "ClusterId", "ProcId", "JobStatus", "HoldReason", "HoldReasonCode", "RemoteHost",
    "LastRemoteHost", "ExitCode", "ExitBySignal", "ExitSignal", "RemoveReason",
]  # fmt: skip
_STATES = {
    1: State.IDLE, 2: State.RUNNING, 3: State.REMOVED, 5: State.HELD, 6: State.RUNNING,
    7: State.SUSPENDED,
}  # fmt: skip
_AWAY = re.compile(
    r"connect|locate|find (?:daemon|schedd)|communicat|collector|timed? ?out", re.IGNORECASE
)
# HoldReasonCode attribute: its input is on the way to the access point.
_SPOOLING = 16
_LARGEST = "MAX_JOBS_PER_SUBMISSION"
DEEDS = ("hold", "release", "vacate", "remove")


def _bindings() -> Any:
    try:
        import htcondor2
    except ImportError as error:
        raise NotHere(
            "this environment has no HTCondor bindings: take one that has (in the form), or "
            "install the package htcondor into it"
        ) from error
    return htcondor2


class AccessPoint:
    """The one that this node's HTCondor configuration names.

    Args:
        name: of its schedd; None: as SCHEDD_HOST says.
        spool: it shares no files with us; None: as AF_SPOOL_JOBS says.
    """

    def __init__(self, name: str | None = None, spool: bool | None = None) -> None:
        self._htcondor = _bindings()
        param = self._htcondor.param
        self.name = name or (str(param["SCHEDD_HOST"]) if "SCHEDD_HOST" in param else "")
        said = str(param["AF_SPOOL_JOBS"]) if "AF_SPOOL_JOBS" in param else "false"
        self.spool = said.strip().lower() in ("true", "yes", "1") if spool is None else spool
        self._schedd: htcondor2.Schedd | None = None

    def _where(self) -> Any:
        kind = self._htcondor.DaemonType.Schedd
        collector = self._htcondor.Collector()
        return collector.locate(kind, self.name) if self.name else collector.locate(kind)

    def _located(self) -> htcondor2.Schedd:
        if self._schedd is None:
            self._schedd = self._htcondor.Schedd(self._where())
        return self._schedd

    def ask(self, call: Callable[[htcondor2.Schedd], T]) -> T:
        """Do something with the schedd; one that has moved is looked up once more.

        Raises:
            SchedulerAway: it does not answer.
            Refused: it does, and refuses.
        """
        known = self._schedd is not None
        try:
            return call(self._located())
        except (self._htcondor.HTCondorException, OSError, RuntimeError) as error:
            self._schedd = None
            words = " ".join(str(error).split())
            if not _AWAY.search(words):
                raise Refused(f"access point {self.name}: {words}") from error
            if known and "connect" in words.lower():
                return self.ask(call)
            raise SchedulerAway(
                f"access point {self.name} does not answer: {words}. Jobs that it has are kept "
                "there; try again when `condor_q` answers"
            ) from error

    def submit(
        self, lines: Mapping[str, str], items: Sequence[Mapping[str, str]] = ({},)
    ) -> tuple[int, Any]:
        """Submit one cluster, a job an item; returns its number, and what spooling needs."""

        def run(schedd: htcondor2.Schedd) -> tuple[int, Any]:
            description = self._htcondor.Submit(dict(lines))
            several = items[0]
            each: Iterator[dict[str, str]] = iter([dict(item) for item in items])
            result = (
                schedd.submit(description, itemdata=each, spool=self.spool)
                if several
                else schedd.submit(description, spool=self.spool)
            )
            if self.spool:
                schedd.spool(result)
            return int(result.cluster()), result

        return self.ask(run)

    def largest_cluster(self) -> int | None:
        """Return how many jobs a cluster may have; None: the schedd does not say.

        Source: HTCondor 23.9 manual, MAX_JOBS_PER_SUBMISSION; 0 would be no limit.
        """
        try:
            said = self.ask(lambda _: self._htcondor.RemoteParam(self._where()).get(_LARGEST))
        except (Refused, SchedulerAway):
            # Whom it tells its configuration is the site's to say; that it is away the submit says.
            return None
        return int(said) or None if said and said.strip().isdecimal() else None

    def query(self, constraint: str, more: Sequence[str] = ()) -> list[Any]:
        """Return the ads of jobs, all in one answer."""
        ads: list[Any] = self.ask(
            lambda schedd: schedd.query(constraint, projection=[*PROJECTION, *more])
        )
        return ads

    def history(self, constraint: str, most: int) -> list[Any]:
        """Return the ads of jobs that have left the queue, the newest first."""
        found: list[Any] = self.ask(
            lambda schedd: list(schedd.history(constraint, PROJECTION, match=most))
        )
        return found

    def act(self, deed: str, constraint: str) -> int:
        """Do one of `DEEDS` to jobs; returns to how many it was done."""
        action = getattr(self._htcondor.JobAction, deed.capitalize())
        words = f"by afportal: {deed}"
        answer = self.ask(lambda schedd: schedd.act(action, constraint, words))
        return int(answer["TotalSuccess"]) if answer else 0

    def edit(self, constraint: str, attribute: str, value: int) -> int:
        """Change an attribute of jobs that are in the queue; returns of how many."""
        try:
            return int(self.ask(lambda s: s.edit(constraint, attribute, str(value))) or 0)
        except Refused as error:
            if "no jobs" in str(error).lower() or "match" in str(error).lower():
                return 0
            raise

    def retrieve(self, constraint: str) -> None:
        """Fetch what spooled jobs left at the access point."""
        self.ask(lambda schedd: schedd.retrieve(constraint))

    def resources(self, asked: Resources) -> dict[str, str]:
        """Return what a job may use, as lines of a submit description.

        Raises:
            WrongRequest: something of it is Slurm's alone, or cannot be said to HTCondor.
        """
        from afportal import submit_description as written

        for name in ("partition", "qos", "reservation"):
            if getattr(asked, name):
                raise WrongRequest(f"{name}: {getattr(asked, name)!r} asked; HTCondor has none")
        lines = {
            "universe": "vanilla",
            "request_cpus": str(asked.cores),
            "request_memory": f"{asked.memory_mib}MB",
            "request_disk": f"{asked.disk_mib}MB",
        }
        if asked.runtime_min is not None:
            lines["allowed_job_duration"] = str(asked.runtime_min * 60)
        if asked.gpus:
            lines["request_gpus"] = str(asked.gpus)
        if asked.account:
            lines["accounting_group"] = written.plain(asked.account)
        try:
            lines["My.Environment"] = written.literal(
                written.environment(passed_on.variables(asked.environment))
            )
        except ValueError as error:
            raise WrongRequest(f"environment: {error}") from error
        if passed_on.wants_token(asked.data_token):
            lines["My.OAuthServicesNeeded"] = written.literal(SERVICE)
        return lines


def state_of(ad: Mapping[str, Any]) -> JobState:
    """Read a job's state from its ad."""
    status = int(ad.get("JobStatus") or 0)
    node = str(ad.get("RemoteHost") or ad.get("LastRemoteHost") or "").rpartition("@")[2]
    if status == 4:
        return ended(
            ad.get("ExitCode"), ad.get("ExitSignal") if ad.get("ExitBySignal") else None, node
        )
    state = _STATES.get(status, State.IDLE)
    if state is State.HELD and ad.get("HoldReasonCode") == _SPOOLING:
        return JobState(State.IDLE, str(ad.get("HoldReason") or ""))
    reason = {State.HELD: "HoldReason", State.REMOVED: "RemoveReason"}.get(state, "")
    return JobState(state, str(ad.get(reason) or "") if reason else "", node)


def ended(exit_code: int | None, signal: int | None, node: str = "") -> JobState:
    """Tell how a job ended by itself."""
    if signal:
        return JobState(State.FAILED, f"ended by signal {int(signal)}", node)
    code = None if exit_code is None else int(exit_code)
    if code:
        return JobState(State.FAILED, f"exit code {code}", node, code)
    return JobState(State.COMPLETED, "", node, code)
