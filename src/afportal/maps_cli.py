"""`afportal maps ls|status|errors|rm`: one's maps, from a terminal."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any


def add_parsers(deeds: Any) -> None:
    """Add these commands to the program's."""
    maps = deeds.add_parser("maps", help="your maps: functions' calls as batch jobs")
    which = maps.add_subparsers(dest="maps_deed", required=True)
    ls = which.add_parser("ls", help="all of them, the newest last")
    status = which.add_parser("status", help="how the calls of some are")
    errors = which.add_parser("errors", help="why calls failed or are held")
    rm = which.add_parser("rm", help="end jobs and forget results")
    for each in (status, errors, rm):
        each.add_argument("tag", nargs="+")
    for each in (ls, status):
        each.add_argument("--json", action="store_true", dest="as_json")


def run(args: argparse.Namespace) -> int:
    """Do one of them; 0: done; 1: calls failed (`errors`), or it could not be done."""
    from afportal import maps

    try:
        if args.maps_deed == "ls":
            return _ls(maps.tags(), as_json=args.as_json)
        if args.maps_deed == "status":
            return _ls(args.tag, as_json=args.as_json)
        if args.maps_deed == "errors":
            return max(map(_errors, args.tag))
        for tag in args.tag:
            maps.remove(tag)
            print(f"removed {tag}")
    except maps.JobsError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _ls(tags: list[str], *, as_json: bool) -> int:
    from afportal import maps

    found: list[dict[str, Any]] = []
    for tag in tags:
        one = maps.load(tag)
        seen = one.look()
        found.append(
            {
                "tag": tag,
                "function": one.function,
                "scheduler": one.scheduler,
                "ids": one.ids,
                "made_s": one.made_s,
                "calls": len(one),
                "states": {str(state): n for state, n in seen.counts().items()},
                "trouble": seen.trouble,
            }
        )
    if as_json:
        print(json.dumps(found, indent=1))
        return 0
    for each in found:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(each["made_s"]))
        states = ", ".join(f"{n} {state}" for state, n in each["states"].items())
        print(f"{each['tag']}\t{each['scheduler']}\t{when}\t{each['calls']} calls: {states}")
        if each["trouble"]:
            print(f"  {each['trouble']}", file=sys.stderr)
    if not found:
        print("no maps yet; in a notebook: from afportal import maps; maps.map(f, inputs)")
    return 0


def _errors(tag: str) -> int:
    from afportal import maps

    one = maps.load(tag)
    wrong = [one.error_report()] if one.errors() else []
    wrong += [one.hold_report()] if one.holds() else []
    print("\n\n".join(wrong) or f"no call of map {tag} failed or is held")
    return 1 if wrong else 0
