"""Where to go on after the choice: a page of the hub in question, never another site."""

from __future__ import annotations

import re

# A path that begins as every page of a hub does, in visible ASCII; an authority
# ("//host"), a backslash, a dot segment or a second scheme cannot be written with it.
_TAIL = re.compile(r"(?:hub|user)/[!-~]*")
_STRANGE = re.compile(r"\\|//|(?:^|/|%2f)(?:\.|%2e){1,2}(?:/|%2f|[?;#]|$)", re.IGNORECASE)


def next_page(hub: str, wish: str) -> str:
    """Return the wish if it is a path of that hub, else the hub's first page."""
    home = f"/{hub}/hub/"
    tail = wish.removeprefix(f"/{hub}/")
    path = tail.partition("?")[0]
    if tail == wish or not _TAIL.fullmatch(tail) or _STRANGE.search(path):
        return home
    return wish
