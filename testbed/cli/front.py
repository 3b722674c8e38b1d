"""Commands for the front door while it runs: drain, undrain, announce."""

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from testbed.cli.output import Json, Project, answer
from testbed.errors import UsageError

if TYPE_CHECKING:
    from testbed.front import FrontState

Instance = Annotated[str, typer.Argument(help="A hub's instance, as htc-1.")]


def drain(instance: Instance, project: Project = None, as_json: Json = False) -> None:
    """Send nobody new to a hub's instance, for an update; who is there stays."""
    from testbed import front
    from testbed.bed import Bed

    state = front.drain(Bed.open(project), instance)
    _told(state, as_json, f"{instance} takes nobody new; undo with testbed undrain {instance}")


def undrain(instance: Instance, project: Project = None, as_json: Json = False) -> None:
    """Send people to a drained instance again."""
    from testbed import front
    from testbed.bed import Bed

    state = front.undrain(Bed.open(project), instance)
    _told(state, as_json, f"{instance} takes people again")


def announce(
    text: Annotated[str | None, typer.Argument(help="Without it: what is announced now.")] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Take the announcement away.")] = False,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """What the landing page and the login page announce, from the next request on."""
    from testbed import front
    from testbed.bed import Bed

    if clear and text:
        raise UsageError("a text and --clear", cure="one of the two")
    bed = Bed.open(project)
    if text is None and not clear:
        state = front.show(bed)
        _told(state, as_json, state.announcement or "nothing is announced")
        return
    state = front.announce(bed, text or "")
    _told(state, as_json, "announced" if state.announcement else "nothing is announced any more")


def _told(state: "FrontState", as_json: bool, words: str) -> None:
    if not as_json:
        print(words)
    answer(as_json, **dataclasses.asdict(state))
