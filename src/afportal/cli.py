"""`afportal`: check a catalogue or a portal.yaml; environments and maps of one's own."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0: all is right, 1: something is wrong, 2: a file cannot be read."""
    from afportal import maps_cli, own_cli

    parser = argparse.ArgumentParser(prog="afportal", description=__doc__)
    deeds = parser.add_subparsers(dest="deed", required=True)
    check = deeds.add_parser("check", help="tell every error of a file")
    check.add_argument(
        "file", nargs="+", type=Path, help="catalogue.yaml, or portal.yaml with its catalogue"
    )
    own_cli.add_parsers(deeds)
    maps_cli.add_parsers(deeds)
    args = parser.parse_args(argv)
    if args.deed == "check":
        return _check(args.file)
    return maps_cli.run(args) if args.deed == "maps" else own_cli.run(args)


def _check(files: Sequence[Path]) -> int:
    worst = 0
    for file in files:
        try:
            print(f"{file}: {_told(file)}: right")
        except (OSError, UnicodeDecodeError) as error:
            # Of portal.yaml it may be the catalogue.
            name = getattr(error, "filename", None) or file
            print(f"{name}: cannot be read: {error}", file=sys.stderr)
            worst = 2
        except ValueError as error:
            print(error, file=sys.stderr)
            worst = max(worst, 1)
    return worst


def _told(file: Path) -> str:
    """Return what a file has, in words. Raises OSError and ValueError."""
    from afportal import catalogue

    raw = _portal(file)
    if raw is None:
        found = catalogue.load(file)
        return f"{len(found.environments)} environments, {len(found.classes)} classes"
    from afportal.portal import read_settings

    # What each instance gives by itself is not looked at.
    given = dict.fromkeys(re.findall(r"@\{(\w+)\}", file.read_text()), "1")
    left = {name: "x" for name in ("cell", "hub_url") if name not in raw}
    settings = read_settings(file, values=given, **left)
    found = catalogue.load(file.parent / settings.catalogue, settings.described)
    kinds = ", ".join(f"{name} ({b.kind})" for name, b in settings.backends.items())
    return f"backends {kinds}; {len(found.environments)} environments, {len(found.classes)} classes"


def _portal(file: Path) -> dict[str, Any] | None:
    """Return a file's content if it is a portal.yaml."""
    import yaml

    try:
        raw: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError:
        return None
    return raw if isinstance(raw, dict) and "backends" in raw else None


if __name__ == "__main__":
    sys.exit(main())
