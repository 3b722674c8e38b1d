"""Other people's batch jobs: what makes a pool one that is in use."""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

from testbed.bed import Bed
from testbed.errors import TestbedError
from testbed.site import Person

_SUBMIT = ("condor_submit", "-terse", "/dev/null")
_JOB = (
    "universe = vanilla", "executable = /bin/true", "transfer_executable = False",
    "should_transfer_files = NO", "request_cpus = 1", "request_memory = 64MB",
    "request_disk = 1MB",
)  # fmt: skip


@dataclass
class OtherJobs:
    """How many were submitted so far, and why others were not."""

    submitted: int = 0
    problems: list[str] = field(default_factory=list)


@contextlib.contextmanager
def coming(
    bed: Bed, access_points: Sequence[str], person: Person, every_s: float, seed: int
) -> Iterator[OtherJobs]:
    """Have a person submit a job that ends at once, at each access point, now and then.

    Args:
        access_points: Services with a schedd that people may submit to.
        every_s: The mean time between two; they come at random (Poisson). 0: never.
    """
    jobs, over = OtherJobs(), threading.Event()
    random = Random(seed)  # noqa: S311 - nothing secret

    def submit() -> None:
        while not over.wait(random.expovariate(1 / every_s)):
            for service in access_points:
                try:
                    done = bed.exec(service, submission(person), user=f"{person.uid}:{person.gid}")
                except TestbedError as error:
                    jobs.problems.append(str(error))
                    continue
                jobs.submitted += done.ok
                if not done.ok:
                    jobs.problems.append(f"{service}: {done.stderr.strip()[-500:]}")

    thread = threading.Thread(target=submit, daemon=True, name="other people's jobs")
    if every_s:
        thread.start()
    try:
        yield jobs
    finally:
        over.set()
        if every_s:
            thread.join(timeout=90)


def submission(person: Person, *more: str, jobs: int = 1) -> list[str]:
    """A command that submits jobs which end at once.

    Args:
        more: Lines of the description that take the place of those it has.
    """
    lines = (*_JOB, f"initialdir = /home/{person.name}", *more)
    words = (word for line in lines for word in ("-append", line))
    return [*_SUBMIT, *words, "-queue", str(jobs)]
