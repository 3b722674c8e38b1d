"""An XCache beside the facility's own, with other settings, for as long as somebody looks at it."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.bed import Bed
from testbed.waiting import wait_until

if TYPE_CHECKING:
    from docker.models.containers import Container

_FILES = "/var/cache/xcache"
_OWNER = "uid=905,gid=905,mode=0750"
# What its certificate is good for beside `xcache`: make-keys.
_DOMAIN = "xcache.internal"


@dataclass(frozen=True)
class ExtraCache:
    """A running cache and the name that clients reach it by."""

    container: "Container"
    host: str

    @property
    def share_used(self) -> float:
        """How much of its disk is in use, from 0 to 1."""
        output = self.container.exec_run(["df", "--output=used,size", _FILES]).output
        text = output if isinstance(output, bytes) else b"".join(output)
        used, size = text.splitlines()[1].split()
        return int(used) / int(size)


@contextlib.contextmanager
def run(
    bed: Bed, name: str, settings: Mapping[str, str], *, disk_mib: int | None = None
) -> Iterator[ExtraCache]:
    """A cache with the image, the keys and the configuration of the facility's own.

    Args:
        settings: Of `start-xrootd`, in place of those in compose.yaml.
        disk_mib: A disk of that size, in memory; default the engine's own, without a limit.

    Raises:
        TestbedError: It does not come up.
    """
    host = f"{name}.{_DOMAIN}"
    network = f"{bed.project}_default"
    mounts = [
        f"{mount.get('Name') or mount['Source']}:{mount['Destination']}:ro"
        for mount in bed.container("xcache").attrs["Mounts"]
        if mount["Destination"] != _FILES
    ]
    memory = {"/run/xrootd": _OWNER}
    if disk_mib:
        memory[_FILES] = f"{_OWNER},size={disk_mib}m"
    container = bed.client.containers.create(
        f"{bed.settings.images}/xrootd",
        environment={
            "AF_ROLE": "xcache",
            "AF_PORT": str(bed.published_port()),
            "AF_XROOTD_NAME": host,  # whom its healthcheck asks: itself
            **settings,
        },
        volumes=mounts if disk_mib else [*mounts, _FILES],
        tmpfs=memory,
        user="905:905",
        labels={"org.af-testbed": "1"},
        network=network,
        networking_config={network: bed.client.api.create_endpoint_config(aliases=[host])},
    )
    try:
        container.start()
        wait_until(
            lambda: container.exec_run(["check-xrootd"]).exit_code == 0, 30, what=f"cache {host}"
        )
        yield ExtraCache(container, host)
    finally:
        container.remove(force=True, v=True)
