"""What a cluster's schedulers and workers read as they begin (`--preload`)."""

from afportal.broken_connections import stay_apart

# Without it a connection that breaks ends the scheduler's others, to client and workers: seen with
# distributed 2026.8 on CPython 3.13.5.
stay_apart()
