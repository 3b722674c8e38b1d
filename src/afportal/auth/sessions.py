"""The end of a person's sessions at one hub: browsers are out, servers and tokens stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jupyterhub import orm
from jupyterhub.utils import new_token

# Told of each person whose sessions ended here.
heeders: list[Callable[[str], None]] = []


def end_sessions(db: Any, person: str) -> int | None:
    """End every browser session that a person has at this hub.

    A hub's cookie holds the person's `cookie_id`, a server's cookie an access token that is
    marked with a session: the first is made anew, the others are deleted. Tokens that a
    person or a server was given are no sessions.

    Returns:
        How many sessions with a server ended; None if this hub does not know the person.
    """
    user = orm.User.find(db, person)
    if user is None:
        return None
    user.cookie_id = new_token()
    user.encrypted_auth_state = None
    sessions = (
        db.query(orm.APIToken)
        .filter(orm.APIToken.user_id == user.id, orm.APIToken.session_id.isnot(None))
        .all()
    )
    # A code that was not exchanged yet would become a session after the end.
    codes = db.query(orm.OAuthCode).filter(orm.OAuthCode.user_id == user.id).all()
    for item in (*sessions, *codes):
        db.delete(item)
    db.commit()
    for heed in heeders:
        heed(person)
    return len(sessions)
