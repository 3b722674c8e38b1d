"""Dask on the facility's batch systems, from a notebook.

    from afportal.dask import HTCondorCluster
    cluster = HTCondorCluster(cores=2)
    cluster.adapt(maximum=20)
    client = cluster.get_client()

What it adds to dask-jobqueue: `docs/dask.md`. Nothing of Dask is loaded before it is named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from afportal.dask.clusters import HTCondorCluster, SLURMCluster

__all__ = ["HTCondorCluster", "SLURMCluster"]


def __getattr__(name: str) -> object:
    if name in __all__:
        from afportal.dask import clusters

        return getattr(clusters, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
