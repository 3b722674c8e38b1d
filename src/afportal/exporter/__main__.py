"""Serves the page: `python3 -m afportal.exporter --help`."""

from __future__ import annotations

import argparse
import logging
import sys
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import MetricsHandler

from afportal.exporter import certificates, htcondor, slurm, xcache
from afportal.exporter.readings import Readings, Source
from afportal.signed_http import listening

log = logging.getLogger("afportal.exporter")

EVERY_S = 15.0
# Their files lie on a disk, their figures change slowly.
EVERY_SLOW_S = 30.0


class Server(ThreadingHTTPServer):
    """Gives the page to whoever asks; a caller that stands still holds up a thread only."""

    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, _: Any, client_address: Any) -> None:
        """Say in one line that somebody went away or does not believe the certificate."""
        log.warning("%s: %s", client_address[0], sys.exception())


def page(readings: Readings, address: tuple[str, int], tls: Path | None) -> Server:
    """Return the server of the page, listening.

    Args:
        tls: folder with `tls.key` and `tls.pem`; None: in clear.
    """
    registry = CollectorRegistry()
    registry.register(readings)
    handler = type("Page", (MetricsHandler,), {"registry": registry, "timeout": 10})
    server = Server(address, handler)
    if tls is not None:
        context = listening(tls / "tls.pem", tls / "tls.key")
        # The handshake belongs to the thread of its connection.
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    return server


def sources(args: argparse.Namespace) -> list[tuple[Source, float]]:
    """Return what is asked, and each how often."""
    found: list[tuple[Source, float]] = [
        (htcondor.Pool(label, collector, schedds), EVERY_S)
        for label, collector, *schedds in args.htcondor
    ]
    if args.slurm:
        found.append((slurm.Cluster(), EVERY_S))
    if args.xcache:
        files, totals, marks = args.xcache
        cache = xcache.Cache(Path(files), Path(totals), xcache.Marks.parse(marks))
        found.append((cache, EVERY_SLOW_S))
    endpoints = [
        certificates.Endpoint(name, address, Path(authority))
        for name, address, authority in args.certificate
    ]
    if endpoints or args.hubs:
        found.append(
            (certificates.Certificates(endpoints, args.hubs, args.authority), EVERY_SLOW_S)
        )
    return found


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="afportal.exporter", description="Schedulers, XCache and certificates for Prometheus"
    )
    parser.add_argument("--listen", default="127.0.0.1:9720", metavar="HOST:PORT")
    parser.add_argument("--tls", type=Path, metavar="FOLDER", help="with tls.key and tls.pem")
    parser.add_argument(
        "--htcondor", action="append", default=[], nargs="+", metavar="WORD",
        help="POOL COLLECTOR SCHEDD…: a pool's label, its collector, the schedds that it must have",
    )  # fmt: skip
    parser.add_argument("--slurm", action="store_true", help="the cluster of slurm.conf")
    parser.add_argument(
        "--xcache", nargs=3, metavar=("FILES", "TOTALS", "DISKUSAGE"),
        help="the cache's folder, what its monitor counted, its pfc.diskusage",
    )  # fmt: skip
    parser.add_argument(
        "--certificate", action="append", default=[], nargs=3,
        metavar=("NAME", "ADDRESS", "AUTHORITY"), help="a service whose certificate is watched",
    )  # fmt: skip
    parser.add_argument("--hubs", type=Path, metavar="FILE", help="Prometheus' targets of the hubs")
    parser.add_argument(
        "--authority", type=Path, metavar="FILE", help="whose certificates the hubs have"
    )
    args = parser.parse_args(argv)
    if any(len(words) < 2 for words in args.htcondor):
        parser.error("--htcondor takes a label and a collector at least")
    if args.hubs and not args.authority:
        parser.error("--hubs needs --authority")
    return args


def main() -> None:
    """Serve until ended."""
    args = parse()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    readings = Readings()
    for source, every_s in sources(args):
        readings.follow(source, every_s)
    host, _, port = args.listen.rpartition(":")
    server = page(readings, (host, int(port)), args.tls)
    log.info("listens on %s", args.listen)
    server.serve_forever()


if __name__ == "__main__":
    main()
