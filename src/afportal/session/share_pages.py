"""Share links for the owner's browser: the back end of the file browser's entry, and arrivals.

GET    api/af/shares     one's links, how far they may reach
POST   api/af/shares     {"path", "lifetime_min", "audience"} -> {"url", …}
POST   api/af/shares/ID  {"path"}: a newer version for the same link
DELETE api/af/shares/ID  ends it
GET    af/arrive?key=…   fetches a copy that its owner chose on the hub's page, and goes to it
GET    af/compare?base=…&remote=…  what differs between two copies, by nbdime
"""

from __future__ import annotations

import asyncio
import functools
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from jupyter_server.base.handlers import APIHandler, JupyterHandler
from jupyter_server.utils import url_path_join
from tornado import web
from tornado.escape import xhtml_escape

from afportal.session.share_errors import NotDone

if TYPE_CHECKING:
    from afportal.session.sharing import Landed, Sharing

ID = r"[0-9a-f]{16}"
COPIES = ".local/share/afportal/share-copies.json"
_NBDIME = "nbdime.webapp.nb_server_extension"


def put_in(server: Any, api: str, token: Callable[[], str]) -> None:
    """Add the routes to a `ServerApp`, before it listens: a browser may be on its way already."""

    @functools.cache
    def sharing() -> Sharing:
        # Loaded when somebody shares: most servers' people do not.
        from afportal.session.sharing import HubShares, Sharing

        home = Path.home()
        return Sharing(HubShares(api, token), home, home / COPIES)

    given = {"sharing": sharing, "server": server}
    base = server.web_app.settings["base_url"]
    server.web_app.add_handlers(
        ".*$",
        [
            (url_path_join(base, route), handler, given)
            for route, handler in (
                ("api/af/shares", SharesHandler),
                (f"api/af/shares/(?P<share>{ID})", ShareHandler),
                ("af/arrive", ArriveHandler),
                ("af/compare", CompareHandler),
            )
        ],
    )


class SharesHandler(APIHandler):
    """One's links."""

    def initialize(self, sharing: Callable[[], Sharing], server: Any) -> None:
        self.make_sharing, self.server = sharing, server

    @property
    def sharing(self) -> Sharing:
        """What this session does with share links."""
        return self.make_sharing()

    @web.authenticated
    async def get(self) -> None:
        """Tell them."""
        await self._answer(self.sharing.hub.ask("GET", "shares"))

    @web.authenticated
    async def post(self) -> None:
        """Make one."""
        await self._answer(self.sharing.share(self._asked()))

    def _asked(self) -> dict[str, Any]:
        body = self.get_json_body()
        return body if isinstance(body, dict) else {}

    async def _answer(self, work: Any) -> None:
        # JupyterLab shows a refusal's "message", which an HTTPError would not put there.
        try:
            told = await work
        except NotDone as error:
            self.set_status(error.status)
            self.finish({"message": str(error)})
        else:
            self.finish(told or {})


class ShareHandler(SharesHandler):
    """One link."""

    @web.authenticated
    async def post(self, share: str) -> None:
        """Renew it."""
        await self._answer(self.sharing.share(self._asked(), share))

    @web.authenticated
    async def delete(self, share: str) -> None:
        """End it."""
        await self._answer(self.sharing.hub.ask("DELETE", f"shares/{share}"))


class _Page(JupyterHandler):
    def initialize(self, sharing: Callable[[], Sharing], server: Any) -> None:
        self.make_sharing, self.server = sharing, server

    @property
    def sharing(self) -> Sharing:
        """What this session does with share links."""
        return self.make_sharing()

    def _lab(self, path: str) -> str:
        return str(url_path_join(self.base_url, "lab/tree", quote(path)))

    def _compare(self, base: str, remote: str) -> str:
        query = urlencode({"base": base, "remote": remote})
        return f"{url_path_join(self.base_url, 'af/compare')}?{query}"

    def _show(self, title: str, *parts: str, status: int = 200, kind: str = "") -> None:
        """Answer with a page; parts are HTML, the title is text."""
        self.set_status(status)
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Cache-Control", "no-store")
        lab = xhtml_escape(url_path_join(self.base_url, "lab"))
        self.finish(
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            f"<title>{xhtml_escape(title)}</title><style>body {{font: 16px/1.5 sans-serif; "
            "max-width: 44rem; margin: 3rem auto; padding: 0 1rem; overflow-wrap: anywhere}"
            "a {color: #0a58ca}</style></head>"
            f'<body data-af-page="{kind}"><h1>{xhtml_escape(title)}</h1>{"".join(parts)}'
            f'<p><a href="{lab}">To JupyterLab</a></p></body></html>'
        )

    def _problem(self, title: str, words: str, status: int) -> None:
        self._show(title, f"<p>{xhtml_escape(words)}</p>", status=status, kind="problem")


class ArriveHandler(_Page):
    """A copy comes. A GET that changes the home: its key was given to this person for once."""

    @web.authenticated
    async def get(self) -> None:
        """Fetch it, and go there."""
        try:
            landed = await self.sharing.arrive(self.get_query_argument("key", ""))
        except NotDone as error:
            self.log.warning("share link: %s", error)
            self._problem("The copy could not be made", str(error), error.status)
            return
        self.log.info("share link of %s: a copy is at %s", landed.about.owner, landed.path)
        if landed.before:
            self._offer(landed)
        else:
            self.redirect(self._lab(landed.path))

    def _offer(self, landed: Landed) -> None:
        there, before = xhtml_escape(landed.path), xhtml_escape(landed.before)
        opened = xhtml_escape(self._lab(landed.path))
        compare = xhtml_escape(self._compare(landed.before, landed.path))
        self._show(
            f"Version {landed.about.version} of {landed.about.name} lies beside yours",
            f"<p>The new one is <code>{there}</code>; yours, as it was, <code>{before}</code>.</p>",
            f'<p><a data-af-open href="{opened}">Open the new one</a>'
            f' · <a data-af-compare href="{compare}">Compare it with yours</a></p>',
            kind="arrived",
        )


class _NbdimeStatic(JupyterHandler, web.StaticFileHandler):
    """Scripts and fonts of nbdime's page."""

    @web.authenticated
    async def get(self, path: str, include_body: bool = True) -> None:  # type: ignore[override]
        """Send one."""
        await web.StaticFileHandler.get(self, path, include_body)


class CompareHandler(_Page):
    """What differs between two copies."""

    @web.authenticated
    async def get(self) -> None:
        """Lead two notebooks to nbdime; list what differs between two folders."""
        base, remote = (self.get_query_argument(name, "").strip("/") for name in ("base", "remote"))
        if base.endswith(".ipynb") and remote.endswith(".ipynb"):
            await self._to_nbdime(base, remote)
            return
        try:
            found = await asyncio.to_thread(self.sharing.differences, base, remote)
        except (OSError, ValueError) as error:
            self._problem("These cannot be compared", str(error), 400)
            return
        rows = []
        for one in found:
            path = xhtml_escape(one.path)
            match one.where:
                case "base":
                    rows.append(f"<li>{path}: only in {xhtml_escape(base)}</li>")
                case "remote":
                    rows.append(f"<li>{path}: only in {xhtml_escape(remote)}</li>")
                case _ if one.path.endswith(".ipynb"):
                    link = self._compare(f"{base}/{one.path}", f"{remote}/{one.path}")
                    rows.append(f'<li><a href="{xhtml_escape(link)}">{path}</a>: compare</li>')
                case _:
                    rows.append(f"<li>{path}: differs</li>")
        listed = f"<ul>{''.join(rows)}</ul>" if rows else "<p>Nothing.</p>"
        self._show(f"What differs between {base} and {remote}", listed, kind="differences")

    async def _to_nbdime(self, base: str, remote: str) -> None:
        # Loaded when somebody compares: it would make every server's start longer.
        if not getattr(self.server, "af_nbdime", False):
            try:
                extension = await asyncio.to_thread(importlib.import_module, _NBDIME)
            except ImportError:
                self._problem(
                    "Notebooks cannot be compared in this environment",
                    "It has no nbdime. Open the link in another environment, or install nbdime in "
                    "your own and start your server anew.",
                    501,
                )
                return
            if not getattr(self.server, "af_nbdime", False):
                extension._load_jupyter_server_extension(self.server)
                # Its page asks for its parts there, and 4.0.4 answers at another place alone.
                route = url_path_join(self.base_url, "nbdime/static/(.*)")
                parts = [(route, _NbdimeStatic, {"path": extension.static_path})]
                self.server.web_app.add_handlers(".*$", parts)
                self.server.af_nbdime = True
        query = urlencode({"base": base, "remote": remote})
        self.redirect(f"{url_path_join(self.base_url, 'nbdime/difftool')}?{query}")
