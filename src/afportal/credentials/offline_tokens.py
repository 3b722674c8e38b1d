"""Offline tokens, encrypted, in a table of the hub's own database.

They do not lie in auth_state: that is empty after Log Out, when a running session still has
to be renewed, and the header login writes it anew with each access token.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from jupyterhub import orm
from jupyterhub.crypto import decrypt, encrypt
from sqlalchemy import Boolean, Column, Float, LargeBinary, Unicode


class OfflineToken(orm.Base):
    """One person's, as JupyterHub encrypts auth_state; the hub makes the table at start."""

    __tablename__ = "af_offline_tokens"
    person = Column(Unicode(255), primary_key=True)
    encrypted = Column(LargeBinary, nullable=False)
    kept_s = Column(Float, nullable=False)
    # No session needs it any more; it is kept until the provider has heard so.
    over = Column(Boolean, nullable=False, default=False)


class OfflineTokens:
    """The offline tokens that this hub keeps.

    Args:
        database: returns the hub's session with its database.
    """

    def __init__(self, database: Callable[[], Any]) -> None:
        self._database = database

    async def keep(self, person: str, token: str) -> None:
        """Keep a person's token in place of the one before.

        Raises:
            jupyterhub.crypto.EncryptionUnavailable: the hub has no key for it.
        """
        encrypted = await encrypt({"token": token})
        row = OfflineToken(person=person, encrypted=encrypted, kept_s=time.time(), over=False)
        self._database().merge(row)
        self._database().commit()

    def has(self, person: str) -> bool:
        """Tell whether there is one that may be used."""
        row = self._row(person)
        return row is not None and not row.over

    async def read(self, person: str, *, over: bool = False) -> str:
        """Return a person's token that may be used, or one that is over; empty if there is none."""
        row = self._row(person)
        if row is None or row.over is not over:
            return ""
        return str((await decrypt(row.encrypted))["token"])

    def end(self, person: str) -> bool:
        """Let a token be used no more; False if there is none."""
        row = self._row(person)
        if row is None:
            return False
        row.over = True
        self._database().commit()
        return True

    def drop(self, person: str) -> None:
        """Forget a token."""
        row = self._row(person)
        if row is not None:
            self._database().delete(row)
            self._database().commit()

    def kept_since(self) -> dict[str, float]:
        """Return person → since when theirs is kept, unix seconds."""
        return {row.person: row.kept_s for row in self._database().query(OfflineToken)}

    def _row(self, person: str) -> Any:
        return self._database().get(OfflineToken, person)
