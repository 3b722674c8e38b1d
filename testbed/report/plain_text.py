"""What people and schedulers wrote, made fit to be shown: no secrets, no control characters."""

import re
import unicodedata

HIDDEN = "[hidden]"

# `token=…`, `"password": "…"`: a value after its name.
_ASSIGNED = re.compile(
    r"(?i)((?:token|password|passwd|secret|api[_-]?key|cookie|[?&]code)"
    r"(?:[\"']?\s*=\s*|[\"']\s*:\s*)[\"']?)[^\s&\"',;<>]{6,}"
)
# `Authorization: Bearer …`, `password: …`: nobody writes prose after these.
_SAID = re.compile(
    r"(?i)((?:password|passwd|authorization|one-time code):\s+(?:(?:bearer|basic|token)\s+)?)"
    r"[^\s&\"',;<>]{6,}"
)
# `Bearer …`: with a digit, or else 'token verification failed' would lose its middle.
_TOLD = re.compile(
    r"(?i)(\b(?:bearer|basic|token|cookie|secret)[:\s]\s*)(?=[\w.~+/=-]*\d)[\w.~+/=-]{8,}"
)
_IN_URL = re.compile(r"(://[^/\s:@]*:)[^/\s@]+(?=@)")
_JWT = re.compile(r"\beyJ[\w-]+\.[\w-]+(?:\.[\w-]*)*")
# What nobody typed: JupyterHub's tokens have 32 hexadecimal digits, other random strings more.
_RANDOM = re.compile(r"\b[0-9a-fA-F]{32,}\b|(?<![\w-])(?=[\w-]*\d)(?=[\w-]*[A-Za-z])[\w-]{40,}=*")


def without_secrets(text: str) -> str:
    """The text with all that looks like a token or a password taken out.

    A failure's reason is a message of the hub's, a scheduler's or the harness's. They should
    hold no secret; a page that is mailed around must not depend on that.
    """
    for pattern in (_ASSIGNED, _SAID, _TOLD, _IN_URL):
        text = pattern.sub(rf"\1{HIDDEN}", text)
    for pattern in (_JWT, _RANDOM):
        text = pattern.sub(HIDDEN, text)
    return text


def printable(text: str) -> str:
    """The text with a mark for each character that would not be seen, or would turn the rest."""
    return "".join(
        c if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co") else "\ufffd"
        for c in text
    )


def shortened(text: str, length: int = 600) -> str:
    """The text, cut after `length` characters."""
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"
