"""Puts `afportal.xcache` in front of the XRootD client and uproot, in programs that import them,
and keeps Dask's TLS connections apart.

`afportal-xcache.pth` calls it at the start of every Python of an environment, so it imports
nothing for itself: docs/decisions/0015-urls-are-led-in-python.md.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # typing's own would cost its import
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

# Which module is wrapped by which. The first is what XRootD.client, fsspec-xrootd, uproot and
# coffea are built on.
_WRAPPERS = {
    "pyxrootd.client": "afportal.xcache.client",
    "uproot.source.fsspec": "afportal.xcache.reads",
    "distributed.comm.tcp": "afportal.dask.connections",
}


class _Finder:
    """Finds a module as everybody else would, and has it wrapped once it is loaded."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _WRAPPERS:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        found = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next((each for each in found if each is not None), None)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                load(module)
                __import__(_WRAPPERS[fullname], fromlist=["wrap"]).wrap(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def install() -> None:
    """From now on these modules are wrapped when they are imported; once is enough."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
