"""Which instance of a hub a person comes to. Pure: what is known goes in, a name comes out."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from afportal.hubs import Hub, Hubs


@dataclass(frozen=True)
class Instance:
    """What is known of one instance at this moment.

    Args:
        servers: this person's servers there, name → path; empty as well when it does not answer.
    """

    name: str
    alive: bool
    drained: bool = False
    servers: Mapping[str, str] | None = None


def choose(person: str, instances: Sequence[Instance], avoid: Collection[str] = ()) -> str | None:
    """Return the name of the instance for a person, None when no instance is alive.

    Where the person's servers run comes first, then a hash of the person over what is alive
    and not drained: two browsers of one person meet, and most people stay where they were
    when an instance comes or goes. With nothing but drained instances alive, one of these
    still serves better than none.

    Args:
        avoid: instances that the person wishes to leave, whatever runs there.
    """
    living = [i for i in instances if i.alive and i.name not in avoid]
    for candidates in (
        [i for i in living if i.servers],
        [i for i in living if not i.drained],
        living,
    ):
        if candidates:
            return max((i.name for i in candidates), key=lambda name: weight(person, name))
    return None


def weight(person: str, instance: str) -> bytes:
    """How much an instance is this person's own.

    Source: rendezvous hashing, Thaler and Ravishankar 1998.
    """
    return hashlib.sha256(f"{person}/{instance}".encode()).digest()


def hub_for_share(hubs: Hubs, found: Mapping[str, Sequence[Instance]], made_on: str) -> Hub:
    """Return the hub at which a person opens a share link.

    One that answers; among these one where they have a server, and then the one that the link
    was made on: what it offers fits best.

    Args:
        found: hub's name → what is known of its instances.
    """

    def rank(hub: Hub) -> tuple[bool, bool, bool]:
        instances = found.get(hub.name, ())
        return (
            any(i.alive for i in instances),
            any(i.alive and i.servers for i in instances),
            hub.name == made_on,
        )

    return max(hubs.hubs, key=rank)
