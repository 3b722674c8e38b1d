"""Who a person is: the directory's password until the front door exists."""

from __future__ import annotations

import asyncio
import grp
import os
import pwd
from typing import Any

from ldapauthenticator import LDAPAuthenticator


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


class DirectoryAuthenticator(LDAPAuthenticator):
    """Checks a password against LDAP and takes the groups along."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.manage_groups = True

    async def authenticate(self, handler: Any, data: dict[str, str]) -> dict[str, Any] | None:
        """Return name and groups, None for a wrong password."""
        found = await super().authenticate(handler, data)
        if found is None:
            return None
        name = found["name"] if isinstance(found, dict) else found
        groups = await asyncio.get_running_loop().run_in_executor(None, groups_of, name)
        return {"name": name, "groups": groups}
