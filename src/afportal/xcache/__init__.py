"""Data from far away through the facility's XCache, without a changed line in a notebook.

What it does is done in front of the XRootD client (`client`), for everything that is built on it:
uproot, coffea, fsspec. For `xrdcp` there is a program of that name (`xrdcp`).
"""

from afportal.xcache.urls import through_cache

__all__ = ["through_cache"]
