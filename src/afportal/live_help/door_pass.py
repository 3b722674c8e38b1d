"""The pass by which a helper's browser gets past the door to one person's server, until a time.

    UNTIL_S:HUB:INSTANCE:OWNER:PERSON:MAC

The hub gives it to a person whom the owner has let in, the front puts it into a cookie of the
helpers' own name, and Apache looks at it before anything reaches a server
(`compose/proxy/config/help_pass.lua` computes the same). It opens the door and no more: the
server still asks the hub whether this person may.

Source: RFC 2104, HMAC-SHA1: mod_lua has no other hash that would do.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass

from afportal.people import NAME

COOKIE = "__Host-af_help"
# The door's secret has other uses: a key for this one alone.
_PURPOSE = b"afportal live help, door pass, 1"
_HUB = r"[a-z][a-z0-9]{0,15}"
_PASS = re.compile(
    rf"(?P<until_s>[0-9]{{1,12}}):(?P<hub>{_HUB}):(?P<instance>{_HUB}-[0-9]{{1,3}})"
    rf":(?P<owner>{NAME.pattern}):(?P<person>{NAME.pattern}):(?P<mac>[0-9a-f]{{40}})"
)


@dataclass(frozen=True)
class Pass:
    """Whom the door lets to whose servers.

    Args:
        until_s: unix seconds.
        instance: of the hub, where the server runs.
    """

    until_s: int
    hub: str
    instance: str
    owner: str
    person: str

    def written(self, secret: str) -> str:
        """Return it as a cookie's value, signed with the door's secret.

        Raises:
            ValueError: a name in it cannot stand in a pass.
        """
        text = ":".join((str(self.until_s), self.hub, self.instance, self.owner, self.person))
        value = f"{text}:{_mac(secret, text)}"
        if not _PASS.fullmatch(value):
            raise ValueError(f"no pass can be written for {self.person} to {self.owner}")
        return value


def read(secret: str, value: str, now_s: float) -> Pass | None:
    """Return the pass that this is, None where it is forged or over."""
    found = _PASS.fullmatch(value)
    if found is None:
        return None
    text = value.rpartition(":")[0]
    if not hmac.compare_digest(found["mac"], _mac(secret, text)):
        return None
    read = Pass(
        int(found["until_s"]), found["hub"], found["instance"], found["owner"], found["person"]
    )
    return read if now_s < read.until_s else None


def _mac(secret: str, text: str) -> str:
    key = hmac.new(secret.encode(), _PURPOSE, hashlib.sha1).hexdigest()
    return hmac.new(key.encode(), text.encode(), hashlib.sha1).hexdigest()
