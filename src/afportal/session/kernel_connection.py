"""A new kernel's web socket opens when the kernel is there, not up to half a second later."""

from __future__ import annotations

import asyncio
from typing import Any

import zmq
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection

KNOCK_EVERY_S = 0.02
# A kernel that answers so often and is not heard by then is left to jupyter_server's own rhythm.
KNOCKS = 100
# ZeroMQ's own pause before it tries again to reach a kernel that does not listen yet is 100 ms.
TRY_AGAIN_MS = 20
_SETTING = "kernel_websocket_connection_class"


def put_in(server: Any) -> None:
    """Have this server's web sockets open promptly, unless its kernels are elsewhere."""
    settings = server.web_app.settings
    if settings.get(_SETTING) is not ZMQChannelsWebsocketConnection:
        return
    settings[_SETTING] = PromptConnection
    server.kernel_manager.context.setsockopt(zmq.RECONNECT_IVL, TRY_AGAIN_MS)


class PromptConnection(ZMQChannelsWebsocketConnection):
    """Knocks at a new kernel as often as it answers.

    A web socket opens when something came by the kernel's broadcast channel, which loses what
    was said before the subscription was through. jupyter_server (2.21) therefore asks for
    something to be said every 0.5 s; this asks again 20 ms after each answer.
    """

    def nudge(self) -> asyncio.Future[None]:
        """Begin to knock; the result is done when the kernel was heard."""
        heard: asyncio.Future[None] = super().nudge()
        if not heard.done():
            self._knocking = asyncio.ensure_future(self._knock(heard))
        return heard

    async def _knock(self, heard: asyncio.Future[None]) -> None:
        # A channel of its own: its answers go to no page.
        channel: Any = self.kernel_manager.connect_shell()
        answered = asyncio.Event()
        channel.on_recv(lambda _answer: answered.set())
        try:
            for _ in range(KNOCKS):
                answered.clear()
                self.session.send(channel, "kernel_info_request")
                answer = asyncio.ensure_future(answered.wait())
                either: set[asyncio.Future[Any]] = {heard, answer}
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                answer.cancel()
                await asyncio.wait({heard}, timeout=KNOCK_EVERY_S)
                if heard.done():
                    return
        finally:
            channel.close()
