"""What is being done, for the person who waits; on stderr, since stdout is the answer."""

import sys


def say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)
