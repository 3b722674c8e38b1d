"""One gateway, several places: each cluster says where it runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from dask_gateway_server.backends.db_base import DBBackendBase
from dask_gateway_server.backends.jobqueue.slurm import SlurmClusterConfig
from dask_gateway_server.traitlets import Type
from traitlets import Unicode

from afportal.dask_gateway.htcondor import HTCondorBackend, HTCondorClusterConfig
from afportal.dask_gateway.jobs import OwnersJobs
from afportal.dask_gateway.local import LocalBackend
from afportal.dask_gateway.slurm import SlurmBackend

PLACES: dict[str, type[OwnersJobs]] = {
    "htcondor": HTCondorBackend,
    "slurm": SlurmBackend,
    "local": LocalBackend,
}


class FacilityClusterConfig(HTCondorClusterConfig, SlurmClusterConfig):
    """What a cluster may be given, and where it runs."""

    place = Unicode("htcondor", help="Where it runs: htcondor, slurm or local.", config=True)


class FacilityBackend(DBBackendBase):
    """Gives each cluster to the backend of the place where it runs.

    The clusters of all are in one database, so that a person has one list of them.
    """

    cluster_config_class = Type(
        "afportal.dask_gateway.backend.FacilityClusterConfig",
        klass="dask_gateway_server.backends.base.ClusterConfig",
        help="The cluster config class to use",
        config=True,
    )

    async def do_setup(self) -> None:
        """Make the backends; what they tell clusters of the gateway is the same for all."""
        self._places: dict[str, OwnersJobs] = {}
        for name, backend in PLACES.items():
            made = backend(parent=self.parent, log=self.log, api_url=self.api_url)
            made.cluster_heartbeat_period = self.cluster_heartbeat_period
            self._places[name] = made

    async def do_start_cluster(self, cluster: Any) -> AsyncIterator[dict[str, str]]:
        """Start its scheduler."""
        async for state in self._of(cluster).do_start_cluster(cluster):
            yield state

    async def do_stop_cluster(self, cluster: Any) -> None:
        """Stop its scheduler."""
        await self._of(cluster).do_stop_cluster(cluster)

    async def do_start_worker(self, worker: Any) -> AsyncIterator[dict[str, str]]:
        """Start a worker."""
        async for state in self._of(worker.cluster).do_start_worker(worker):
            yield state

    async def do_stop_worker(self, worker: Any) -> None:
        """Stop a worker."""
        await self._of(worker.cluster).do_stop_worker(worker)

    async def do_check_clusters(self, clusters: Sequence[Any]) -> list[bool]:
        """Tell of each cluster whether its scheduler's job is there."""
        there: dict[str, bool] = {}
        for name, place in self._places.items():
            mine = [c for c in clusters if c.config.place == name]
            states = await place.do_check_clusters(mine)
            there |= {c.name: state for c, state in zip(mine, states, strict=True)}
        return [there[c.name] for c in clusters]

    async def do_check_workers(self, workers: Sequence[Any]) -> list[bool]:
        """Tell of each worker whether its job is there."""
        there: dict[str, bool] = {}
        for name, place in self._places.items():
            mine = [w for w in workers if w.cluster.config.place == name]
            states = await place.do_check_workers(mine)
            there |= {w.name: state for w, state in zip(mine, states, strict=True)}
        return [there[w.name] for w in workers]

    def _of(self, cluster: Any) -> OwnersJobs:
        return self._places[cluster.config.place]
