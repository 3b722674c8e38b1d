"""What a later reader needs to explain a run: each service's log and health, and the queues."""

import json
from pathlib import Path
from typing import Any

from testbed.bed import Bed
from testbed.errors import ExplainedError

# Who can tell what of the batch systems; run as the container's own user.
QUESTIONS: dict[str, tuple[str, list[str]]] = {
    "condor_q": ("condor-ap", ["condor_q", "-allusers", "-nobatch"]),
    "condor_history": ("condor-ap", ["condor_history", "-limit", "100"]),
    "condor_q-hub": ("condor-ap-hub", ["condor_q", "-allusers", "-nobatch"]),
    "condor_q-hub-held": ("condor-ap-hub", ["condor_q", "-allusers", "-hold"]),
    "condor_history-hub": ("condor-ap-hub", ["condor_history", "-limit", "100"]),
    "condor_status": ("condor-cm", ["condor_status", "-any"]),
    "alerts": ("prometheus", ["ask-prometheus"]),
    "squeue": ("slurmctld", ["squeue", "--all", "--long"]),
    "sinfo": ("slurmctld", ["sinfo", "--Node", "--long"]),
    "sacct": ("slurmctld", ["sacct", "--allusers", "--starttime", "now-3hours"]),
}


def collect(bed: Bed, folder: Path) -> None:
    """Write what is known of a testbed into a folder; what cannot be had is said there too.

    Args:
        folder: Made if missing. Gets `<service>.log`, `health.json` and `queues/<question>.txt`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    summaries = bed.summaries()
    health: dict[str, Any] = {}
    for service in sorted(summaries):
        _write(folder / f"{service}.log", lambda service=service: bed.logs(service))
        for container in bed.containers(service):
            health[str(container.name)] = _state(container.attrs)
    (folder / "health.json").write_text(json.dumps(health, indent=1) + "\n")
    queues = folder / "queues"
    queues.mkdir(exist_ok=True)
    for name, (service, argv) in QUESTIONS.items():
        if any(entry["State"] == "running" for entry in summaries.get(service, [])):
            _write(queues / f"{name}.txt", lambda s=service, a=argv: _answer(bed, s, a))


def _answer(bed: Bed, service: str, argv: list[str]) -> str:
    done = bed.exec(service, argv, timeout_s=20)
    return done.stdout + (f"exit code {done.exit_code}\n{done.stderr}" if not done.ok else "")


def _state(attrs: dict[str, Any]) -> dict[str, Any]:
    """What `docker inspect` says, but for the environment and the mounts' host paths."""
    return {
        "image": attrs["Image"],
        "restarts": attrs["RestartCount"],
        "state": attrs["State"],
        "memory_limit": attrs["HostConfig"].get("Memory"),
    }


def _write(file: Path, produce: Any) -> None:
    try:
        text = produce()
    except (ExplainedError, OSError) as error:
        text = f"could not be had: {error}\n"
    file.write_text(text)
