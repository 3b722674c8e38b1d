"""Take a testbed down, whatever state it, its files or the engine are in."""

import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

from testbed import engine
from testbed.bed import PROJECT_LABEL, Bed
from testbed.errors import TestbedError
from testbed.progress import say

_FORGOTTEN_FILES = ("up.json", "ca.pem", "used-codes.json")


def down(bed: Bed, *, volumes: bool) -> None:
    """See `Bed.down`. Asks labels, not the compose files: those may be broken, or gone."""
    if not engine.answers(bed.settings):
        say("no container engine answers: nothing runs now")
        if volumes:
            say("volumes, if there are any, stay until testbed down --volumes meets an engine")
        return
    _stop_in_order(bed)
    _remove_what_is_left(bed, volumes=volumes)
    if volumes:
        _forget(bed)


def remove(bed: Bed, services: Sequence[str]) -> None:
    """Take services away that are there for a while only, with their anonymous volumes.

    Args:
        bed: With the profile that they have.

    Raises:
        TestbedError: They are still there.
    """
    done = subprocess.run(
        bed.compose.argv("rm", "--stop", "--force", "--volumes", *services),
        env=bed.compose.environ(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise TestbedError(
            f"{', '.join(services)} could not be removed",
            seen=done.stderr.strip()[-1000:],
            cure=bed.command("down"),
        )


def _stop_in_order(bed: Bed) -> None:
    """Dependants first, by compose; it knows the order from the containers' labels."""
    for entries in bed.summaries().values():
        for entry in entries:
            if entry["State"] == "paused":  # cannot hear that it shall stop
                bed.client.api.unpause(entry["Id"])
    subprocess.run(
        ["docker", "compose", "-p", bed.project, "down", "--remove-orphans"],
        env=dict(bed.settings.environ),
        cwd="/",  # away from any compose file
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,  # without compose, or half-built: the sweep does the rest
    )


def _remove_what_is_left(bed: Bed, *, volumes: bool) -> None:
    import docker.errors

    mine: dict[str, Any] = {"label": f"{PROJECT_LABEL}={bed.project}"}
    left = [
        *bed.client.containers.list(all=True, filters=mine, ignore_removed=True),
        *bed.client.networks.list(filters=mine),
        *(bed.client.volumes.list(filters=mine) if volumes else ()),
    ]
    problems = []
    for thing in left:
        try:
            if hasattr(thing, "attach") or hasattr(thing, "kill"):  # a container
                thing.remove(force=True)
            else:
                thing.remove()
        except docker.errors.NotFound:
            pass
        except docker.errors.APIError as error:
            problems.append(f"{getattr(thing, 'name', thing)}: {error.explanation}")
    if problems:
        raise TestbedError(
            "something of the testbed could not be removed",
            seen="\n".join(problems),
            cure="testbed down again; if it stays, restart the container engine first",
        )


def _forget(bed: Bed) -> None:
    """Drop what was written about people whose passwords are gone with the volumes."""
    state = bed.settings.state_dir
    for file in (bed.settings.site_file, *(state / name for name in _FORGOTTEN_FILES)):
        file.unlink(missing_ok=True)
    for folder in ("secrets", "cookies"):
        shutil.rmtree(state / folder, ignore_errors=True)
