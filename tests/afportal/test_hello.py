"""A server's hello is said again where no answer came, and never where it was refused."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tornado.httpclient import HTTPClientError

from afportal.session import hello


def said(monkeypatch: pytest.MonkeyPatch, *answers: Exception | None) -> list[dict[str, Any]]:
    """What was sent to a hub that answers so."""
    monkeypatch.setattr(hello, "PAUSES_S", (0.0, 0.01, 0.02))
    left, sent = list(answers), []

    async def tell(what: str, body: dict[str, Any]) -> None:
        sent.append({what: body})
        answer = left.pop(0)
        if answer is not None:
            raise answer

    asyncio.run(hello.say(tell, 8888))
    return sent


def test_once_if_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    assert said(monkeypatch, None) == [{"hello": {"port": 8888}}]


@pytest.mark.parametrize("trouble", [OSError("reset"), HTTPClientError(500), HTTPClientError(599)])
def test_again_if_the_hub_is_in_trouble(
    monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    assert len(said(monkeypatch, trouble, trouble, None)) == 3


def test_one_whose_answer_was_lost_has_been_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(said(monkeypatch, OSError("reset"), HTTPClientError(409))) == 2


@pytest.mark.parametrize("code", [403, 409])
def test_never_if_it_is_refused(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    with pytest.raises(HTTPClientError, match=str(code)):
        said(monkeypatch, HTTPClientError(code))


def test_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HTTPClientError, match="503"):
        said(monkeypatch, *[HTTPClientError(503)] * 4)
