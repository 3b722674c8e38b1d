"""Names that a shared file may have, wherever it goes."""

from __future__ import annotations

MOST_BYTES = 200


def plain_name(name: str) -> str:
    """Return a file's name as it is.

    Raises:
        ValueError: it is a path, is hidden, is too long, or cannot be seen.
    """
    if not name.isprintable() or "/" in name or name.startswith(".") or name != name.strip():
        raise ValueError("a file's plain name is wanted: no '/', no '.' in front, all visible")
    if not name or len(name.encode()) > MOST_BYTES:
        raise ValueError(f"a name of at most {MOST_BYTES} bytes is wanted")
    return name


def plain_path(path: str) -> tuple[str, ...]:
    """Return the names of a path below some folder. Raises ValueError as `plain_name`."""
    return tuple(plain_name(name) for name in path.split("/"))
