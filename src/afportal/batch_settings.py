"""batchspawner's settings: those that carry over, and those that are refused loudly.

Source: batchspawner 1.3.0, BatchSpawnerBase's traits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from traitlets import Unicode
from traitlets.config import Config, Configurable

# What batchspawner takes and this spawner refuses, with what to use instead.
REFUSED_SETTINGS: Mapping[str, str] = {
    "batch_script": "the job is a submit object; sizes are classes in catalogue.yaml",
    "batch_submit_cmd": "the backend submits by the scheduler's API; see portal.yaml",
    "batch_query_cmd": "the queue monitor asks the scheduler's API; see portal.yaml",
    "batch_cancel_cmd": "the backend cancels by the scheduler's API; see portal.yaml",
    "batchspawner_singleuser_cmd": "the session starts by itself; see catalogue.yaml, environments",
    "exec_prefix": "the hub acts for people by its own identity; see docs/security.md",
    "req_prologue": "put it into the environment's start-up; see catalogue.yaml, environments",
    "req_epilogue": "put it into the environment's start-up; see catalogue.yaml, environments",
    "req_options": "use req_partition, req_qos, req_account, req_reservation or a class",
}


_SECTION = {"slurm": "SlurmSpawner", "htcondor": "CondorSpawner"}


def refuse_unsupported(config: Config) -> None:
    """Raise for every setting that this spawner does not take.

    Raises:
        ValueError: names each setting and what to use instead.
    """
    sections = ("PortalSpawner", "BatchSpawnerBase", *_SECTION.values())
    found = [
        f"c.{section}.{name} is not supported: {REFUSED_SETTINGS[name]}"
        for section in sections
        for name in config.get(section, {})
        if name in REFUSED_SETTINGS
    ]
    if found:
        raise ValueError("; ".join(found))


class BatchSpawnerBase(Configurable):
    """The settings of batchspawner that carry over, under the name that they have there."""

    req_queue = Unicode(
        "", config=True, help="Queue; the same as req_partition where that is empty"
    )
    req_partition = Unicode("", config=True, help="Slurm partition, unless the person chose one")
    req_qos = Unicode("", config=True, help="Slurm QOS, unless the person chose one")
    req_account = Unicode("", config=True, help="Account, unless the person chose one")
    req_reservation = Unicode("", config=True, help="Reservation, unless the person chose one")
    req_runtime = Unicode("", config=True, help="Run time, 'hours:minutes:seconds' or minutes")
    req_memory = Unicode("", config=True, help="Memory, '1500', '1500M' or '2G'")
    req_nprocs = Unicode("", config=True, help="Cores")
    req_ngpus = Unicode("", config=True, help="Number of GPUs of any kind")
    req_gres = Unicode("", config=True, help="Slurm generic resource, 'gpu:k40:1'")
    req_homedir = Unicode(
        "", config=True, help="Working directory; '{username}' is replaced; empty: the account's"
    )
    req_keepvars = Unicode(
        "", config=True, help="Variables of the hub's environment that jobs get, by comma"
    )

    def defaults_for(self, kind: str) -> dict[str, Any]:
        """Return option → value of every setting that is made, in the options' own units.

        A setting of c.SlurmSpawner or c.CondorSpawner counts for backends of that kind where
        c.PortalSpawner and c.BatchSpawnerBase leave it empty.
        """
        section = self.config.get(_SECTION.get(kind, ""), {})

        def setting(name: str) -> str:
            return str(getattr(self, name) or section.get(name, "") or "")

        found: dict[str, Any] = {
            "partition": setting("req_partition") or setting("req_queue"),
            "qos": setting("req_qos"),
            "account": setting("req_account"),
            "reservation": setting("req_reservation"),
            "gpus": setting("req_gres").removeprefix("gpu:") or setting("req_ngpus"),
            "cores": whole(setting("req_nprocs")),
            "memory_mib": mebibytes(setting("req_memory")),
            "runtime_min": minutes(setting("req_runtime")),
        }
        return {name: value for name, value in found.items() if value}


def whole(text: str) -> int | None:
    """Read a whole number; None for nothing."""
    return int(text) if text else None


def mebibytes(text: str) -> int | None:
    """Read '1500', '1500M' or '2G' (batchspawner's form) as MiB."""
    if not text:
        return None
    units: dict[str, float] = {"K": 1 / 1024, "M": 1, "G": 1024, "T": 1024 * 1024}
    unit = units.get(text[-1].upper())
    return int(text) if unit is None else int(float(text[:-1]) * unit)


def minutes(text: str) -> int | None:
    """Read 'hours:minutes:seconds', 'minutes:seconds' or minutes as whole minutes, rounded up."""
    if not text:
        return None
    parts = [int(part) for part in text.split(":")]
    if len(parts) == 1:
        return parts[0]
    seconds = 0
    for part in parts:
        seconds = seconds * 60 + part
    return -(-seconds // 60)
