"""Tables of the share links' database, which all hubs of the facility have together."""

from __future__ import annotations

from sqlalchemy import Boolean, Float, ForeignKey, Index, Integer, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """What belongs to this database and not to a hub's own."""


class ShareRow(Base):
    """One link. Of the link itself nothing but its hash is here."""

    __tablename__ = "af_shares"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    key_hash: Mapped[str] = mapped_column(String(64), unique=True)
    owner: Mapped[str] = mapped_column(String(255), index=True)
    cell: Mapped[str] = mapped_column(String(32))
    snapshot: Mapped[str] = mapped_column(Text)
    audience: Mapped[str] = mapped_column(Text)
    ran_in: Mapped[str] = mapped_column(Text)
    lifetime_min: Mapped[int] = mapped_column(Integer)
    made_s: Mapped[float] = mapped_column(Float)
    sent_s: Mapped[float] = mapped_column(Float)
    expires_s: Mapped[float] = mapped_column(Float, index=True)
    revoked_s: Mapped[float | None] = mapped_column(Float)
    version: Mapped[int] = mapped_column(Integer)
    size: Mapped[int] = mapped_column(Integer)
    sha256: Mapped[str] = mapped_column(String(64))
    # Whether its snapshot is still there.
    kept: Mapped[bool] = mapped_column(Boolean)


class UseRow(Base):
    """What somebody did with a link."""

    __tablename__ = "af_share_uses"
    __table_args__ = (Index("af_share_uses_of_person", "share", "person", "what"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    share: Mapped[str] = mapped_column(ForeignKey("af_shares.id", ondelete="CASCADE"))
    person: Mapped[str] = mapped_column(String(255))
    what: Mapped[str] = mapped_column(String(32))
    version: Mapped[int] = mapped_column(Integer)
    cell: Mapped[str] = mapped_column(String(32))
    at_s: Mapped[float] = mapped_column(Float)


class GuessRow(Base):
    """A link that somebody tried and that is none."""

    __tablename__ = "af_share_guesses"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    person: Mapped[str] = mapped_column(String(255), index=True)
    at_s: Mapped[float] = mapped_column(Float)


class ArrivalRow(Base):
    """A copy that somebody asked for and that their own server shall fetch."""

    __tablename__ = "af_share_arrivals"

    key_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    share: Mapped[str] = mapped_column(ForeignKey("af_shares.id", ondelete="CASCADE"))
    person: Mapped[str] = mapped_column(String(255))
    cell: Mapped[str] = mapped_column(String(32))
    server: Mapped[str] = mapped_column(String(255))
    outputs: Mapped[bool] = mapped_column(Boolean)
    at_s: Mapped[float] = mapped_column(Float)
