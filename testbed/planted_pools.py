"""Pools in a known state: filled with people's jobs, or with partitions and accounts."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from testbed import other_jobs
from testbed.bed import Bed
from testbed.errors import TestbedError
from testbed.site import Person
from testbed.waiting import wait_until

_NAME = "planted"
_PLANTED = f'JobBatchName == "{_NAME}"'
# As in compose/slurmctld/config/accounts.toml.
_COORDINATOR = "hub"
# The most cores that a job may have there, as in slurm.conf: MaxCPUsPerNode of `short`.
_PARTITIONS = {"interactive": 4, "batch": 4, "short": 2}


@dataclass(frozen=True)
class Filler:
    """Jobs of one kind that only sleep.

    Args:
        backend: "slurm" or "htcondor".
        partition: Slurm's.
        minutes: time limit, and how long they sleep.
    """

    backend: str
    jobs: int
    cores: int
    memory_mib: int
    minutes: int = 9
    partition: str = ""

    def __str__(self) -> str:
        where = f"{self.backend} {self.partition}".strip()
        return f"{self.jobs} × {self.cores} cores, {self.memory_mib} MiB at {where}"


def drawn(random: Random) -> list[Filler]:
    """A state of both pools: from nearly free to full with people waiting."""
    fillers = []
    for partition, most in _PARTITIONS.items():
        if random.random() < 0.6:
            cores = random.choice([n for n in (1, 2, 4) if n <= most])
            fillers.append(
                Filler(
                    "slurm", random.randint(1, 24 // cores), cores,
                    random.choice((256, 1024, 2048)) * cores, random.randint(7, 9), partition,
                )
            )  # fmt: skip
    if random.random() < 0.8:
        cores = random.choice((1, 2))
        fillers.append(
            Filler("htcondor", random.randint(1, 24), cores, random.choice((512, 1536)) * cores)
        )
    return fillers


@contextlib.contextmanager
def filled(bed: Bed, fillers: Sequence[Filler], person: Person) -> Iterator[None]:
    """Have a person's jobs in both pools; they are gone at the end.

    Returns when no job starts any more.

    Raises:
        TestbedError: A scheduler does not take them.
    """
    try:
        for filler in fillers:
            _submit(bed, filler, person)
        # The same twice, a negotiation cycle and a backfill pass apart.
        before = ""

        def settled() -> bool:
            nonlocal before
            now = _states(bed)
            same, before = now == before, now
            return same

        wait_until(settled, 90, what="the planted jobs run or wait", poll_s=12)
        yield
    finally:
        _clear(bed)


def _submit(bed: Bed, filler: Filler, person: Person) -> None:
    seconds = str(filler.minutes * 60)
    user = f"{person.uid}:{person.gid}"
    if filler.backend == "slurm":
        argv = [
            "sbatch", f"--array=1-{filler.jobs}", f"--partition={filler.partition}", "--ntasks=1",
            f"--cpus-per-task={filler.cores}", f"--mem={filler.memory_mib}",
            f"--time={filler.minutes}", f"--job-name={_NAME}", "--output=/dev/null", "--chdir=/",
            f"--wrap=exec sleep {seconds}",
        ]  # fmt: skip
        done = bed.exec("slurm-node", argv, user=user)
    else:
        argv = other_jobs.submission(
            person,
            "executable = /bin/sleep", f"arguments = {seconds}",
            f"request_cpus = {filler.cores}", f"request_memory = {filler.memory_mib}MB",
            f'batch_name = "{_NAME}"',
            jobs=filler.jobs,
        )  # fmt: skip
        done = bed.exec("condor-ap", argv, user=user)
    if not done.ok:
        raise TestbedError(f"not planted: {filler}", seen=done.stderr.strip()[-500:])


def _states(bed: Bed) -> str:
    slurm = bed.exec(
        "slurmctld",
        ["squeue", "--all", "--noheader", "--array", f"--name={_NAME}", "--format=%i %T"],
    )
    condor = bed.exec(
        "condor-ap",
        [
            "condor_q",
            "-allusers",
            "-constraint",
            _PLANTED,
            "-af",
            "ClusterId",
            "ProcId",
            "JobStatus",
        ],
    )
    if not (slurm.ok and condor.ok):
        raise TestbedError("the queues cannot be read", seen=slurm.stderr + condor.stderr)
    return "\n".join([*sorted(slurm.stdout.splitlines()), "", *sorted(condor.stdout.splitlines())])


def _clear(bed: Bed) -> None:
    bed.exec("slurmctld", ["scancel", f"--name={_NAME}"])
    bed.exec("condor-ap", ["condor_rm", "-constraint", _PLANTED])
    wait_until(lambda: not _states(bed).strip(), 90, what="the planted jobs are gone", poll_s=1)


@contextlib.contextmanager
def large(bed: Bed, person: str, *, accounts: int, partitions: int) -> Iterator[None]:
    """Give Slurm so many partitions more, and a person so many accounts; gone at the end.

    Every second partition takes only some of the accounts.

    Raises:
        TestbedError: Slurm does not take them.
    """
    names = [f"{_NAME}{number:03}" for number in range(accounts)]
    queues = [f"{_NAME}{number:03}" for number in range(partitions)]
    listed = ",".join(names)

    def run(*argv: str) -> None:
        done = bed.exec("slurmctld", list(argv), timeout_s=120)
        if not done.ok:
            raise TestbedError(
                f"{argv[0]} did not do it", seen=(done.stderr or done.stdout).strip()[-500:]
            )

    try:
        run("sacctmgr", "-i", "add", "account", listed)
        # Whose portal it is sees what it coordinates, as with all other accounts.
        run("sacctmgr", "-i", "add", "coordinator", f"account={listed}", f"names={_COORDINATOR}")
        run("sacctmgr", "-i", "add", "user", person, f"account={listed}", "qos=normal,short")
        for number, queue in enumerate(queues):
            some = [f"AllowAccounts={','.join(names[number::5])}"] if number % 2 else []
            run("scontrol", "create", f"PartitionName={queue}", "Nodes=compute", *some)
        yield
    finally:
        last = [
            *(("scontrol", "delete", f"PartitionName={queue}") for queue in queues),
            ("sacctmgr", "-i", "delete", "user", f"name={person}", f"account={listed}"),
            ("sacctmgr", "-i", "delete", "account", f"name={listed}"),
        ]
        for argv in last:  # what was never made cannot go either
            with contextlib.suppress(TestbedError):
                run(*argv)
