"""What Dask's TLS needs in every process that has it: client, scheduler, nanny, worker.

A worker that leaves breaks its connections; without this each of them could take others of the
process along (`afportal.broken_connections`), its client's among them. The import hook calls it.
"""

from __future__ import annotations

from typing import Any

from afportal.broken_connections import stay_apart


def wrap(_module: Any) -> None:
    """Keep connections apart from now on: before Dask has any."""
    stay_apart()
