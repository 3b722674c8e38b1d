"""uproot asks an XRootD server for a megabyte at a time, so that it unpacks while more comes.

Its own requests are of 10 MB, and nothing is unpacked before the last byte of one has been read and
decrypted. All requests of a read are under way at once, so more of them cost no round trips.

Measured: docs/decisions/0015-urls-are-led-in-python.md.
"""

from typing import Any

_REQUEST_BYTES = 2**20
_SCHEMES = ("root://", "roots://")


def wrap(module: Any) -> None:
    """Give `uproot.source.fsspec` the smaller requests, where nobody chose others."""
    from uproot.source.coalesce import CoalesceConfig

    smaller = CoalesceConfig(max_request_bytes=_REQUEST_BYTES)
    begin = module.FSSpecSource.__init__

    def init(self: Any, file_path: str, coalesce_config: Any = None, **options: Any) -> None:
        if coalesce_config is None and file_path.startswith(_SCHEMES):
            coalesce_config = smaller
        begin(self, file_path, coalesce_config, **options)

    module.FSSpecSource.__init__ = init
