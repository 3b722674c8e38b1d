"""A person's groups, as the name service has them."""

from __future__ import annotations

import asyncio
import grp
import os
import pwd


def groups_of(person: str) -> list[str]:
    """Return the names of a person's groups as the name service has them; empty if unknown."""
    try:
        account = pwd.getpwnam(person)
    except KeyError:
        return []
    names = []
    for gid in os.getgrouplist(person, account.pw_gid):
        try:
            names.append(grp.getgrgid(gid).gr_name)
        except KeyError:
            continue
    return names


async def find_groups(person: str) -> list[str] | None:
    """Ask in a thread; None when nothing is known, as while the directory is away."""
    return await asyncio.get_running_loop().run_in_executor(None, groups_of, person) or None
