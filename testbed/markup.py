"""What a merge request and a CI read: Markdown that cannot mark up, JUnit's XML, pages' text."""

import html
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """One test case: `words` are the failure's message, or else its output.

    `broke` is for what the harness itself broke; `seconds` how long it took, if that is known.
    """

    group: str
    name: str
    words: str = ""
    failed: bool = False
    broke: bool = False
    seconds: float | None = None


def text_of(page: str) -> str:
    """What a page of HTML says, without its marks, on one line."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(map(_escaped, line)) + " |" for line in lines)


def bullets(lines: Iterable[str]) -> str:
    """A Markdown list."""
    return "\n".join(f"- {_escaped(line)}" for line in lines)


def junit(name: str, cases: Sequence[Case], notes: Sequence[str] = ()) -> bytes:
    """A JUnit report of one suite."""
    suite = ET.Element(
        "testsuite",
        name=name,
        tests=str(len(cases)),
        failures=str(sum(case.failed for case in cases)),
        errors=str(sum(case.broke for case in cases)),
        skipped="0",
    )
    for case in cases:
        told = {"classname": _legible(case.group), "name": _legible(case.name)}
        if case.seconds is not None:
            told["time"] = f"{case.seconds:.3f}"
        element = ET.SubElement(suite, "testcase", told)
        if case.failed or case.broke:
            kind = "failure" if case.failed else "error"
            ET.SubElement(element, kind, message=_legible(case.words))
        elif case.words:
            ET.SubElement(element, "system-out").text = _legible(case.words)
    if notes:
        ET.SubElement(suite, "system-out").text = "\n".join(map(_legible, notes))
    body: bytes = ET.tostring(suite, encoding="utf-8", xml_declaration=True)
    return body


def _escaped(text: str) -> str:
    """No mark-up, no link and no mention: names come from a file that anybody may have written."""
    safe = re.sub(r"([\\`*_\[\]|~#])", r"\\\1", html.escape(_legible(text), quote=False))
    return safe.replace("@", "@&#8203;").replace("://", ":&#8203;//")


def _legible(text: str) -> str:
    """Without control characters, which XML forbids and terminals obey."""
    return "".join(c if c.isprintable() else " " for c in text)
