"""A map's live display in a notebook."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from afportal.jobs.errors import NotHere

if TYPE_CHECKING:
    from afportal.maps.picked_up import Map

_EVERY_S = 1.0


class Live:
    """Shows a map, and keeps what it shows up to date from a thread of its own.

    Args:
        timeout_s: after so long it is left as it is then; None: until nothing more comes.
    """

    def __init__(self, shown: Map, timeout_s: float | None = None) -> None:
        try:
            import ipywidgets
        except ImportError as error:
            raise NotHere(
                "this environment has no ipywidgets, which shows what changes: "
                "pip install ipywidgets; without it a map shows itself as it is now"
            ) from error
        self._map = shown
        self._ended = threading.Event()
        self.widget: Any = ipywidgets.HTML(shown._repr_html_())
        self._thread = threading.Thread(
            target=self._follow, args=(timeout_s,), name=f"live {shown.tag}", daemon=True
        )
        self._thread.start()

    def _follow(self, timeout_s: float | None) -> None:
        from afportal.maps import report

        left_s = timeout_s
        while not self._ended.is_set():
            seen = self._map.look()
            shown = self._map
            self.widget.value = report.html(shown.tag, shown.function, shown.scheduler, seen)
            if all(call.stuck for call in seen.calls):
                return
            if left_s is not None:
                left_s -= _EVERY_S
                if left_s <= 0:
                    return
            self._ended.wait(_EVERY_S)

    def stop(self) -> None:
        """Leave it as it is."""
        self._ended.set()
        self._thread.join()

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait until it changes no more."""
        self._thread.join(timeout_s)

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.widget)
