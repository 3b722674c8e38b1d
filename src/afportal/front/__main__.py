"""Serves the front's pages until ended by TERM."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import ssl
from pathlib import Path
from urllib.parse import urlsplit

from afportal.broken_connections import stay_apart
from afportal.front.app import make_app, make_templates
from afportal.front.cells import Cells
from afportal.front.handlers import Front
from afportal.front.page import read_page
from afportal.front.state import State
from afportal.front.watched import Watched
from afportal.hubs import read_hubs
from afportal.signed_http import listening
from afportal.tls import asking


def main() -> None:
    """Read the settings and serve."""
    parser = argparse.ArgumentParser(prog="python -m afportal.front", description=__doc__)
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--hubs", required=True, help="hubs.yaml")
    parser.add_argument("--page", required=True, help="front.yaml")
    parser.add_argument("--state", required=True, help="folder of announcement and drained")
    parser.add_argument("--proxy-secret-file", required=True)
    parser.add_argument("--hub-token-file", required=True)
    parser.add_argument("--certificate", help="this service's own; with --key: listen with TLS")
    parser.add_argument("--key", help="of the certificate")
    parser.add_argument("--authority", help="whose certificates the hubs have")
    parser.add_argument("--hubs-url", required=True, help="as browsers see it")
    parser.add_argument("--help-url", default="", help="default: help. in place of hubs.")
    parser.add_argument("--login-url", default="", help="default: login. in place of hubs.")
    parser.add_argument(
        "--login-health-url",
        default="http://keycloak:8080/realms/af/.well-known/openid-configuration",
        help="answers with 200 when people can log in",
    )
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    # Apache logs every request already, and says who.
    logging.getLogger("tornado.access").setLevel(logging.WARNING)
    hubs_url = args.hubs_url.rstrip("/")
    name = urlsplit(hubs_url).netloc
    try:
        front = Front(
            page=Watched(args.page, read_page),
            hubs=Watched(args.hubs, read_hubs),
            state=State(args.state),
            cells=Cells(
                Path(args.hub_token_file).read_text().strip(),
                tls=asking(args.authority) if args.authority else None,
            ),
            templates=make_templates(),
            proxy_secret=Path(args.proxy_secret_file).read_text().strip(),
            hubs_url=hubs_url,
            help_url=args.help_url.rstrip("/") or "https://" + name.replace("hubs.", "help.", 1),
            login_url=args.login_url.rstrip("/") or "https://" + name.replace("hubs.", "login.", 1),
            login_health_url=args.login_health_url,
        )
        tls = listening(args.certificate, args.key) if args.certificate else None
    except (OSError, ValueError) as error:
        raise SystemExit(f"front: {error}") from None
    stay_apart()
    asyncio.run(_serve(front, args.port, tls))


async def _serve(front: Front, port: int, tls: ssl.SSLContext | None) -> None:
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, over.set)
    make_app(front).listen(port, ssl_options=tls)
    logging.getLogger("afportal.front").info("listening on port %d", port)
    await over.wait()


if __name__ == "__main__":
    main()
