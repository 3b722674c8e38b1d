"""`afportal check FILE…`: whether a catalogue is right, before a hub reads it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0: all is right, 1: something is wrong, 2: a file cannot be read."""
    parser = argparse.ArgumentParser(prog="afportal", description=__doc__)
    deeds = parser.add_subparsers(dest="deed", required=True)
    check = deeds.add_parser("check", help="tell every error of a catalogue, with its line")
    check.add_argument("file", nargs="+", type=Path, help="catalogue.yaml")
    return _check(parser.parse_args(argv).file)


def _check(files: Sequence[Path]) -> int:
    from afportal import catalogue

    worst = 0
    for file in files:
        try:
            found = catalogue.load(file)
        except (OSError, UnicodeDecodeError) as error:
            print(f"{file}: cannot be read: {error}", file=sys.stderr)
            worst = 2
        except ValueError as error:
            print(error, file=sys.stderr)
            worst = max(worst, 1)
        else:
            many = f"{len(found.environments)} environments, {len(found.classes)} classes"
            print(f"{file}: {many}: right")
    return worst


if __name__ == "__main__":
    sys.exit(main())
