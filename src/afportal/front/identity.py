"""Who asks: believed from the proxy only, by the secret it shares with this service."""

from __future__ import annotations

import hmac

from tornado.httputil import HTTPHeaders


def person_of(headers: HTTPHeaders, secret: str) -> str:
    """Return the person's name, empty when nobody is logged in.

    Two headers of one kind, or a person without the proxy's secret, are nobody.
    """
    secrets = headers.get_list("X-Proxy-Secret")
    people = headers.get_list("X-Remote-User")
    if len(secrets) != 1 or len(people) != 1:
        return ""
    if not hmac.compare_digest(secrets[0].encode(), secret.encode()):
        return ""
    return people[0]
