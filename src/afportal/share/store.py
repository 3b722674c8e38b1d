"""All share links of the facility: made, found, renewed, revoked, and swept away at their end.

Every method waits for the database: a hub calls them in a thread.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from sqlalchemy import Engine, create_engine, delete, event, func, select, update
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.orm import Session

from afportal.share.bodies import Audience, NewShare, RanIn, Snapshot
from afportal.share.contents import Contents, Received
from afportal.share.link import (
    KEY_BYTES,
    OPENED,
    Arrival,
    Share,
    ShareRefused,
    TooManyGuesses,
    Use,
)
from afportal.share.rows import ArrivalRow, Base, GuessRow, ShareRow, UseRow
from afportal.share.settings import MIB, ShareSettings

log = logging.getLogger(__name__)

# A server that was asked for with a copy may wait long for its place.
ARRIVAL_LIFE_S = 4 * 3600.0
_BUSY_S = 10.0


def _hash(key: str) -> str:
    # Of 192 random bits: nothing that could be guessed needs a slow hash.
    return hashlib.sha256(key.encode()).hexdigest()


def _share(row: ShareRow) -> Share:
    return Share(
        id=row.id,
        owner=row.owner,
        cell=row.cell,
        snapshot=Snapshot.model_validate_json(row.snapshot),
        audience=Audience.model_validate_json(row.audience),
        ran_in=RanIn.model_validate_json(row.ran_in),
        lifetime_min=row.lifetime_min,
        made_s=row.made_s,
        sent_s=row.sent_s,
        expires_s=row.expires_s,
        revoked_s=row.revoked_s,
        version=row.version,
        size=row.size,
        sha256=row.sha256,
        kept=row.kept,
    )


@dataclass
class Shares:
    """The links of all hubs.

    Args:
        clock: unix seconds.
    """

    settings: ShareSettings
    clock: Callable[[], float] = time.time
    contents: Contents = field(init=False)
    _engine: Engine | None = field(default=None, init=False)
    _first: threading.Lock = field(default_factory=threading.Lock, init=False)

    def __post_init__(self) -> None:
        self.contents = Contents(self.settings.folder)

    @contextmanager
    def _begin(self) -> Iterator[Session]:
        with Session(self._connected()) as session, session.begin():
            yield session

    def _connected(self) -> Engine:
        """Return the database with its tables, which whoever comes first makes."""
        with self._first:
            if self._engine is None:
                engine = _engine(self.settings.database)
                try:
                    Base.metadata.create_all(engine)
                except (OperationalError, ProgrammingError):
                    # Another hub made them at the same moment, or it cannot be reached.
                    Base.metadata.create_all(engine)
                self._engine = engine
        return self._engine

    def close(self) -> None:
        """End all connections."""
        if self._engine is not None:
            self._engine.dispose()

    # The owner's

    def most_bytes(self, owner: str, renewed: str = "") -> int:
        """Return how large a snapshot its owner may send.

        Args:
            renewed: link whose present snapshot gives its room.

        Raises:
            ShareRefused: none at all, they have too many links, or no such link.
        """
        with self._begin() as session:
            if renewed:
                self._good(session, owner, renewed)
            else:
                self._check_count(session, owner)
            return min(self.settings.largest_mib * MIB, self._room(session, owner, renewed))

    def add(
        self, owner: str, cell: str, asked: NewShare, ran_in: RanIn, received: Received
    ) -> tuple[str, Share]:
        """Make a link to what was received; returns it, which is kept nowhere, and what it is.

        Raises:
            ShareRefused: for longer than the facility allows, too large, or one too many.
        """
        lifetime_min = asked.lifetime_min or self.settings.lifetime_min
        if lifetime_min > self.settings.longest_min:
            raise ShareRefused(
                f"{lifetime_min} minutes asked; a link is good for at most "
                f"{self.settings.longest_min} minutes: ask for less, and refresh it later"
            )
        key, now_s = secrets.token_urlsafe(KEY_BYTES), self.clock()
        row = ShareRow(
            id=secrets.token_hex(8),
            key_hash=_hash(key),
            owner=owner,
            cell=cell,
            snapshot=asked.snapshot.model_dump_json(),
            audience=asked.audience.model_dump_json(),
            ran_in=ran_in.model_dump_json(),
            lifetime_min=lifetime_min,
            made_s=now_s,
            sent_s=now_s,
            expires_s=now_s + 60 * lifetime_min,
            version=1,
            size=received.size,
            sha256=received.sha256,
            kept=True,
        )
        with self._begin() as session:
            self._check_count(session, owner)
            self._check_room(session, owner, received)
            session.add(row)
            self.contents.keep(row.id, row.version, received)
            session.flush()
            return key, _share(row)

    def renew(
        self, owner: str, share: str, snapshot: Snapshot, ran_in: RanIn, received: Received
    ) -> Share:
        """Make what was received the newest version of a link, whose time begins anew.

        The same content as before is no new version.

        Raises:
            ShareRefused: it is over, is another's, is of another kind, or too large.
        """
        with self._begin() as session:
            row = self._good(session, owner, share)
            before = Snapshot.model_validate_json(row.snapshot)
            if before.kind != snapshot.kind:
                raise ShareRefused(
                    f"a {snapshot.kind} was sent; this link is to a {before.kind}: make another"
                )
            self._check_room(session, owner, received, renewed=share)
            now_s, old = self.clock(), row.version
            row.sent_s, row.expires_s = now_s, now_s + 60 * row.lifetime_min
            # The link's name stays: people know it by that.
            row.snapshot = snapshot.model_copy(update={"name": before.name}).model_dump_json()
            row.ran_in = ran_in.model_dump_json()
            if received.sha256 == row.sha256:
                received.path.unlink(missing_ok=True)
                return _share(row)
            row.version += 1
            row.size, row.sha256 = received.size, received.sha256
            self.contents.keep(share, row.version, received)
            session.flush()
            renewed = _share(row)
        self.contents.delete(share, old)
        return renewed

    def revoke(self, owner: str, share: str) -> Share:
        """End a link now, and delete its snapshot. Raises `ShareRefused`: there is none."""
        with self._begin() as session:
            row = self._of_owner(session, owner, share)
            row.revoked_s = row.revoked_s or self.clock()
            row.kept = False
            revoked = _share(row)
        self.contents.delete(share, revoked.version)
        return revoked

    def revoke_all(self, owner: str) -> None:
        """End all links of somebody, as of one who is no person any more."""
        for share in self.of(owner):
            if not share.over(self.clock()):
                self.revoke(owner, share.id)

    def of(self, owner: str) -> list[Share]:
        """Return somebody's links, the newest first; those that have ended too."""
        return self._listed(ShareRow.owner == owner)

    def all(self) -> list[Share]:
        """Return everybody's links, the newest first, as operators see them."""
        return self._listed()

    def _listed(self, *which: Any) -> list[Share]:
        with self._begin() as session:
            rows = session.scalars(
                select(ShareRow).where(*which).order_by(ShareRow.made_s.desc()).limit(1000)
            )
            return [_share(row) for row in rows]

    def uses(self, shares: Sequence[Share]) -> dict[str, list[Use]]:
        """Return what people did with these links, each in the order of time."""
        found: dict[str, list[Use]] = {share.id: [] for share in shares}
        with self._begin() as session:
            rows = session.scalars(
                select(UseRow).where(UseRow.share.in_(found)).order_by(UseRow.at_s).limit(10_000)
            )
            for row in rows:
                found[row.share].append(_use(row))
        return found

    def _of_owner(self, session: Session, owner: str, share: str) -> ShareRow:
        row = session.get(ShareRow, share)
        if row is None or row.owner != owner:
            raise ShareRefused(f"you have no link {share}; see the list of your links", 404)
        return row

    def _good(self, session: Session, owner: str, share: str) -> ShareRow:
        row = self._of_owner(session, owner, share)
        if how := _share(row).over(self.clock()):
            raise ShareRefused(f"this link is {how}: make a new one", 410)
        return row

    def _check_count(self, session: Session, owner: str) -> None:
        most = self.settings.most_links
        count = session.scalar(
            select(func.count()).select_from(ShareRow).where(*self._living(owner))
        )
        if (count or 0) >= most:
            raise ShareRefused(f"you have {count} links; {most} are the most: revoke one", 409)

    def _living(self, owner: str) -> tuple[Any, ...]:
        return (
            ShareRow.owner == owner,
            ShareRow.revoked_s.is_(None),
            ShareRow.expires_s > self.clock(),
        )

    def _room(self, session: Session, owner: str, renewed: str = "") -> int:
        used = session.scalar(
            select(func.sum(ShareRow.size)).where(
                *self._living(owner), ShareRow.kept, ShareRow.id != renewed
            )
        )
        return max(0, self.settings.quota_mib * MIB - (used or 0))

    def _check_room(
        self, session: Session, owner: str, received: Received, *, renewed: str = ""
    ) -> None:
        room = self._room(session, owner, renewed)
        if received.size > room:
            raise ShareRefused(
                f"{received.size / MIB:.1f} MiB sent; your links may hold "
                f"{self.settings.quota_mib} MiB, of which {room / MIB:.1f} are left: revoke one",
                413,
            )

    # The others'

    def find(self, key: str, person: str) -> Share | None:
        """Return what somebody's link is; None: there is none, which is remembered.

        Raises:
            TooManyGuesses: they tried too many; nothing is looked up.
        """
        with self._begin() as session:
            self._check_guesses(session, person)
            row = session.scalar(select(ShareRow).where(ShareRow.key_hash == _hash(key)))
            if row is None:
                session.add(GuessRow(person=person, at_s=self.clock()))
                return None
            return _share(row)

    def check_guesses(self, person: str) -> None:
        """Let somebody try a link of another kind. Raises `TooManyGuesses`."""
        with self._begin() as session:
            self._check_guesses(session, person)

    def note_guess(self, person: str) -> None:
        """Remember that somebody tried one that is none."""
        with self._begin() as session:
            session.add(GuessRow(person=person, at_s=self.clock()))

    def _check_guesses(self, session: Session, person: str) -> None:
        since_s = self.clock() - self.settings.guess_window_s
        guesses = session.scalars(
            select(GuessRow.at_s)
            .where(GuessRow.person == person, GuessRow.at_s > since_s)
            .order_by(GuessRow.at_s)
            .limit(self.settings.guesses)
        ).all()
        if len(guesses) >= self.settings.guesses:
            raise TooManyGuesses(int(guesses[0] - since_s))

    def note(self, share: Share, person: str, what: str, cell: str) -> None:
        """Remember what somebody did with a link; a look is remembered once for each version."""
        with self._begin() as session:
            known = session.scalar(
                select(UseRow.id)
                .where(
                    UseRow.share == share.id,
                    UseRow.person == person,
                    UseRow.what == what,
                    UseRow.version == share.version,
                )
                .limit(1)
            )
            if known is not None and what != OPENED:
                return
            session.add(
                UseRow(
                    share=share.id, person=person, what=what, version=share.version, cell=cell,
                    at_s=self.clock(),
                )
            )  # fmt: skip

    def opened(self, share: Share, person: str) -> Use | None:
        """Return when somebody fetched a copy last; None: never."""
        with self._begin() as session:
            row = session.scalar(
                select(UseRow)
                .where(UseRow.share == share.id, UseRow.person == person, UseRow.what == OPENED)
                .order_by(UseRow.at_s.desc())
                .limit(1)
            )
            return _use(row) if row is not None else None

    def expect(self, share: Share, person: str, cell: str, server: str, *, outputs: bool) -> str:
        """Have a copy fetched by a server of somebody's; returns the key to it, for once."""
        key = secrets.token_urlsafe(KEY_BYTES)
        with self._begin() as session:
            session.add(
                ArrivalRow(
                    key_hash=_hash(key), share=share.id, person=person, cell=cell, server=server,
                    outputs=outputs, at_s=self.clock(),
                )
            )  # fmt: skip
        return key

    def arrival(self, key: str, person: str, cell: str, server: str) -> Arrival:
        """Return what this server shall fetch.

        Raises:
            ShareRefused: nothing, or it was fetched before, or the link has ended meanwhile.
        """
        with self._begin() as session:
            return self._arrival(session, key, person, cell, server)[1]

    def fetch(self, key: str, person: str, cell: str, server: str) -> tuple[Share, BinaryIO]:
        """Open what this server fetches now; it cannot be fetched again.

        Raises:
            ShareRefused: as `arrival`.
        """
        with self._begin() as session:
            row, arrival = self._arrival(session, key, person, cell, server)
            share = arrival.share
            try:
                opened = self.contents.open(share.id, share.version)
            except FileNotFoundError:
                raise ShareRefused(
                    "what this link led to is gone: ask for a new one", 410
                ) from None
            session.delete(row)
        self.note(share, person, OPENED, cell)
        return share, opened

    def _arrival(
        self, session: Session, key: str, person: str, cell: str, server: str
    ) -> tuple[ArrivalRow, Arrival]:
        row = session.get(ArrivalRow, _hash(key))
        if (
            row is None
            or (row.person, row.cell, row.server) != (person, cell, server)
            or self.clock() - row.at_s > ARRIVAL_LIFE_S
        ):
            raise ShareRefused("there is no such copy to fetch: open the link again", 404)
        share = _share(session.get_one(ShareRow, row.share))
        if share.over(self.clock()) == "revoked" or not share.kept:
            raise ShareRefused("this link has ended meanwhile: ask its owner for a new one", 410)
        return row, Arrival(share, row.outputs)

    # In time

    def sweep(self) -> int:
        """Delete what has ended: snapshots at once, who opened them after `kept_days`.

        Returns how many snapshots were deleted.
        """
        now_s = self.clock()
        with self._begin() as session:
            session.execute(
                delete(GuessRow).where(GuessRow.at_s < now_s - self.settings.guess_window_s)
            )
            session.execute(delete(ArrivalRow).where(ArrivalRow.at_s < now_s - ARRIVAL_LIFE_S))
            # Whoever was let in before its end gets it when their server has started.
            awaited = select(ArrivalRow.share)
            ended = session.execute(
                select(ShareRow.id, ShareRow.version).where(
                    ShareRow.kept, ShareRow.expires_s <= now_s, ShareRow.id.not_in(awaited)
                )
            ).all()
            session.execute(
                update(ShareRow)
                .where(ShareRow.id.in_([one.id for one in ended]))
                .values(kept=False)
            )
            forgotten = select(ShareRow.id).where(
                ShareRow.expires_s < now_s - 86400 * self.settings.kept_days
            )
            session.execute(delete(UseRow).where(UseRow.share.in_(forgotten)))
            session.execute(delete(ArrivalRow).where(ArrivalRow.share.in_(forgotten)))
            session.execute(delete(ShareRow).where(ShareRow.id.in_(forgotten)))
            kept = session.execute(select(ShareRow.id, ShareRow.version).where(ShareRow.kept)).all()
        for share, version in ended:
            self.contents.delete(share, version)
        return len(ended) + self.contents.sweep([(one.id, one.version) for one in kept])


def _use(row: UseRow) -> Use:
    return Use(row.share, row.person, row.what, row.version, row.cell, row.at_s)


def _engine(address: str) -> Engine:
    if not address.startswith("sqlite"):
        return create_engine(address, pool_pre_ping=True)
    engine = create_engine(address, connect_args={"timeout": _BUSY_S})

    @event.listens_for(engine, "connect")
    def _set_up(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # else Python begins transactions by itself
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        # One that reads first and then writes would be refused at once, not wait, if another
        # wrote meanwhile. Source: SQLite, "Write-Ahead Logging", SQLITE_BUSY_SNAPSHOT.
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
