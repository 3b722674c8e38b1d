"""Who counts as a person: an account of the directory that services may act for."""

from __future__ import annotations

import grp
import os
import pwd
import re

NAME = re.compile(r"[a-z_][a-z0-9_.-]{0,31}")


def account_of(person: str, *, group: str, min_uid: int) -> pwd.struct_passwd:
    """Return the account of a person, refusing root, service accounts and strangers.

    Args:
        person: login name as the hub knows it.
        group: POSIX group whose members count as people.
        min_uid: lowest uid that counts as a person's.

    Raises:
        LookupError: no such account, too low a uid, or not a member of the group.
    """
    if not NAME.fullmatch(person):
        raise LookupError(f"{person!r} is not a login name")
    try:
        account = pwd.getpwnam(person)
        people = grp.getgrnam(group)
    except KeyError as error:
        raise LookupError(f"no account {person} or no group {group}") from error
    if account.pw_uid < min_uid:
        raise LookupError(f"{person} has uid {account.pw_uid}; people start at {min_uid}")
    if people.gr_gid not in os.getgrouplist(person, account.pw_gid):
        raise LookupError(f"{person} is not a member of {group}")
    return account
