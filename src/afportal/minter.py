"""Makes a person's token beside the key that signs it, for the hub alone.

A signing key can make anybody; so it stays on the access point (HTCondor) or the
controller (Slurm), and the hub, which holds no key, asks this service. Each token that
is made is logged with its person and lifetime.

    POST /token {"person": "alice", "lifetime_s": 3600} -> {"token": "…", "expires_s": …}
"""

from __future__ import annotations

import argparse
import logging
import re
import subprocess
import time
from collections.abc import Callable, Mapping
from typing import Any

from afportal.people import account_of
from afportal.signed_http import Refused, Request, SignedServer, listening, read_secret

log = logging.getLogger("afportal.minter")

MAX_LIFETIME_S = 24 * 3600
TIMEOUT_S = 20


def _run(argv: list[str]) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise Refused(f"{argv[0]} did not answer within {TIMEOUT_S} s", 504) from error
    if done.returncode != 0:
        raise Refused(f"{argv[0]} failed: {done.stderr.strip()[-300:]}", 502)
    return done.stdout.strip()


def htcondor_token(key: str, domain: str) -> Callable[[str, int], str]:
    """Return a maker of IDTOKENs that may read and submit, nothing more.

    Source: condor_token_create(1), HTCondor 23.9.
    """

    def make(person: str, lifetime_s: int) -> str:
        return _run(
            ["condor_token_create", "-identity", f"{person}@{domain}", "-key", key,
             "-lifetime", str(lifetime_s), "-authz", "READ", "-authz", "WRITE"]
        )  # fmt: skip

    return make


def slurm_token(person: str, lifetime_s: int) -> str:
    """Make a JWT by scontrol. Source: scontrol(1) 'token', Slurm 24.11."""
    out = _run(["scontrol", "token", f"username={person}", f"lifespan={lifetime_s}"])
    match = re.fullmatch(r"SLURM_JWT=(\S+)", out)
    if match is None:
        raise Refused("scontrol token did not answer with SLURM_JWT=…", 502)
    return match.group(1)


class Minter:
    """Answers /token for members of one group.

    Args:
        make: makes the token of a person for a lifetime in seconds.
        group: POSIX group whose members may get one.
        min_uid: lowest uid that counts as a person's.
        services: names outside the group that may get one too (the hub's own identity).
    """

    def __init__(
        self,
        make: Callable[[str, int], str],
        *,
        group: str,
        min_uid: int,
        services: frozenset[str] = frozenset(),
    ) -> None:
        self._make = make
        self._group = group
        self._min_uid = min_uid
        self._services = services

    def answer(self, request: Request) -> Mapping[str, Any]:
        """Make one token; `Refused` for anything else."""
        if (request.method, request.path) != ("POST", "/token"):
            raise Refused("only POST /token is answered", 404)
        if set(request.body) != {"person", "lifetime_s"}:
            raise Refused("exactly person and lifetime_s are taken")
        person, lifetime_s = request.body["person"], request.body["lifetime_s"]
        if not isinstance(person, str) or not isinstance(lifetime_s, int):
            raise Refused("person is a name, lifetime_s a whole number of seconds")
        if not 0 < lifetime_s <= MAX_LIFETIME_S:
            raise Refused(f"lifetime of {lifetime_s} s asked; 1 to {MAX_LIFETIME_S} s are made")
        if person not in self._services:
            try:
                account_of(person, group=self._group, min_uid=self._min_uid)
            except LookupError as error:
                raise Refused(str(error), 403) from error
        token = self._make(person, lifetime_s)
        log.info("made a token for %s, %d s", person, lifetime_s)
        return {"token": token, "expires_s": time.time() + lifetime_s}


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kind", choices=("condor", "slurm"), required=True)
    parser.add_argument("--listen", default="127.0.0.1:9700", metavar="HOST:PORT")
    parser.add_argument("--secret-file", required=True)
    parser.add_argument("--tls", metavar="FOLDER", help="with tls.key and tls.pem: listen with TLS")
    parser.add_argument("--group", default="people", help="members may get a token")
    parser.add_argument("--min-uid", type=int, default=20000)
    parser.add_argument(
        "--service", action="append", default=[], help="a name outside the group that may too"
    )
    parser.add_argument("--key", default="PEOPLE", help="HTCondor: name of the signing key")
    parser.add_argument(
        "--domain", default="af.test", help="HTCondor: UID domain of the identities"
    )
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    make = htcondor_token(args.key, args.domain) if args.kind == "condor" else slurm_token
    minter = Minter(make, group=args.group, min_uid=args.min_uid, services=frozenset(args.service))
    host, _, port = args.listen.rpartition(":")
    server = SignedServer(
        (host, int(port)),
        read_secret(args.secret_file),
        minter.answer,
        tls=listening(f"{args.tls}/tls.pem", f"{args.tls}/tls.key") if args.tls else None,
    )
    log.info("minter for %s listens on %s", args.kind, args.listen)
    server.serve_forever()


if __name__ == "__main__":
    main()
