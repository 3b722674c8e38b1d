"""An XCache or an origin beside the facility's own, with other settings, for as long as somebody
looks at it."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.bed import Bed, Completed
from testbed.compose import FAR_ORIGIN_RATE
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
        used, size = self.exec(["df", "--output=used,size", _FILES]).stdout.splitlines()[1].split()
        return int(used) / int(size)

    def exec(self, argv: Sequence[str]) -> Completed:
        """Run a short command in its container."""
        code, output = self.container.exec_run(list(argv), demux=True)
        stdout, stderr = (bytes(part or b"").decode() for part in output)
        return Completed(int(code or 0), stdout, stderr)

    def file(self, path: str) -> str:
        """Where it keeps a file that clients name `path`."""
        return f"{_FILES}{path}"


@contextlib.contextmanager
def run(
    bed: Bed,
    name: str,
    settings: Mapping[str, str],
    *,
    disk_mib: int | None = None,
    origin_address: str | None = None,
) -> Iterator[ExtraCache]:
    """A cache with the image, the keys and the configuration of the facility's own.

    Args:
        settings: Of `start-xrootd`, in place of those in compose.yaml.
        disk_mib: A disk of that size, in memory; default the engine's own, without a limit.
        origin_address: Of an origin in place of the facility's own (`far_origin`).

    Raises:
        TestbedError: It does not come up.
    """
    host = f"{name}.{_DOMAIN}"
    disk = {_FILES: f"{_OWNER},size={disk_mib}m"} if disk_mib else {}
    with _beside(
        bed,
        "xcache",
        "xrootd",
        # Its healthcheck asks itself.
        {"AF_XROOTD_NAME": host, **settings},
        without=_FILES,
        volumes=[] if disk_mib else [_FILES],
        tmpfs=disk,
        hosts={"origin": origin_address} if origin_address else {},
        alias=host,
    ) as container:
        yield ExtraCache(container, host)


@contextlib.contextmanager
def far_origin(bed: Bed) -> Iterator[str]:
    """The origin once more, with all its files, at the rate of a distant one.

    Yields:
        Its address; its name, and the one in its certificate, is the origin's own.

    Raises:
        TestbedError: It does not come up.
    """
    settings = {"AF_XROOTD_RATE": FAR_ORIGIN_RATE}
    # So that its healthcheck asks itself.
    itself = {"origin": "127.0.0.1"}
    with _beside(bed, "origin", "origin", settings, hosts=itself) as container:
        container.reload()
        networks = container.attrs["NetworkSettings"]["Networks"]
        yield str(networks[_network(bed)]["IPAddress"])


@contextlib.contextmanager
def _beside(
    bed: Bed,
    service: str,
    image: str,
    settings: Mapping[str, str],
    *,
    without: str = "",
    volumes: Sequence[str] = (),
    tmpfs: Mapping[str, str] | None = None,
    hosts: Mapping[str, str] | None = None,
    alias: str | None = None,
) -> Iterator["Container"]:
    """Another container of a service, with its keys and configuration, to read only.

    Args:
        without: What of the service's own it does not get.
        hosts: Names that mean something else to it.
        alias: What others call it.
    """
    network = _network(bed)
    mounts = [
        f"{mount.get('Name') or mount['Source']}:{mount['Destination']}:ro"
        for mount in bed.container(service).attrs["Mounts"]
        if mount["Destination"] != without
    ]
    aliases = {network: bed.client.api.create_endpoint_config(aliases=[alias] if alias else None)}
    container = bed.client.containers.create(
        f"{bed.settings.images}/{image}",
        environment={"AF_ROLE": service, "AF_PORT": str(bed.published_port()), **settings},
        volumes=[*mounts, *volumes],
        tmpfs={"/run/xrootd": _OWNER, **(tmpfs or {})},
        user="905:905",
        labels={"org.af-testbed": "1"},
        extra_hosts=dict(hosts or {}),
        network=network,
        networking_config=aliases,
    )
    try:
        container.start()
        wait_until(
            lambda: container.exec_run(["check-xrootd"]).exit_code == 0,
            60,
            what=f"{service} {alias or 'once more'}",
        )
        yield container
    finally:
        container.remove(force=True, v=True)


def _network(bed: Bed) -> str:
    return f"{bed.project}_default"
