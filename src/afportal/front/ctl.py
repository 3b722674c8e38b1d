"""Changes what the front says and where it sends people: drain, undrain, announce, show."""

from __future__ import annotations

import argparse
import json
import sys

from afportal.front.state import State
from afportal.hubs import read_hubs


def main(argv: list[str] | None = None) -> int:
    """Do one deed and print the state as JSON; 2 for what cannot be meant."""
    parser = argparse.ArgumentParser(prog="front-ctl", description=__doc__)
    parser.add_argument("--hubs", default="/etc/afportal/hubs.yaml")
    parser.add_argument("--state", default="/srv/front/state")
    deeds = parser.add_subparsers(dest="deed", required=True)
    for deed in ("drain", "undrain"):
        deeds.add_parser(deed).add_argument("instance")
    deeds.add_parser("announce").add_argument("text", help="empty takes it away")
    deeds.add_parser("show")
    args = parser.parse_args(argv)
    state = State(args.state)
    try:
        known = [name for _, name in read_hubs(args.hubs).instances()]
        # What is drained may have left hubs.yaml since.
        if args.deed == "drain" and args.instance not in known:
            raise ValueError(f"no instance {args.instance}; there are {', '.join(known)}")
        if args.deed == "undrain" and args.instance not in {*known, *state.drained()}:
            raise ValueError(f"no instance {args.instance}; there are {', '.join(known)}")
        if args.deed == "drain":
            state.drain(args.instance)
        elif args.deed == "undrain":
            state.undrain(args.instance)
        elif args.deed == "announce":
            state.announce(args.text)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    drained = sorted(state.drained())
    print(
        json.dumps({"announcement": state.announcement(), "drained": drained, "instances": known})
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
