"""What a person chose, as plain data in an HTCondor submit description.

Source: HTCondor 23.9 manual, condor_submit(1): "new" syntax of arguments and environment, macros.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import classad2


def literal(text: str) -> str:
    """Return a ClassAd string literal that a submit description takes as plain data.

    Raises:
        ValueError: the text holds a control character.
    """
    if re.search(r"[\x00-\x1f\x7f]", text):
        raise ValueError(f"control character in {text!r}")
    return str(classad2.quote(text)).replace("$", "$(DOLLAR)")


def plain(text: str) -> str:
    """Return text for an unquoted value of a submit description. Raises ValueError."""
    if not re.fullmatch(r"[A-Za-z0-9_./@+:-]+", text):
        raise ValueError(f"{text!r} cannot stand in a submit description")
    return text


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def arguments(argv: Iterable[str]) -> str:
    """Return arguments in the "new" syntax: each in single quotes, doubled inside."""
    return " ".join(map(_quoted, argv))


def environment(variables: Mapping[str, str]) -> str:
    """Return variables in the "new" syntax, by name."""
    return " ".join(f"{name}={_quoted(value)}" for name, value in sorted(variables.items()))
