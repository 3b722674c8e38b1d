"""The command on the facility's hubs as data: hubs."""

from typing import Annotated

import typer

from testbed.cli.output import Json, answer, table


def hubs(
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; end with 1 if a file is not current.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make the compose services and the front door's routes from compose/hub/config/hubs.yaml."""
    from testbed import hubs as hubs_file
    from testbed import settings

    home = settings.load().home
    known = hubs_file.read(home)
    changes = hubs_file.changes(home) if check else hubs_file.render(home)
    if not as_json:
        table(
            ("hub", "title", "backends", "login", "instances"),
            [
                (h.name, h.title, ", ".join(h.backends), h.login, " ".join(h.instance_names))
                for h in known
            ],
        )
        for change in changes:
            print(f"{change.path} {'is not current' if check else 'made anew'}: {change.words}")
        if changes:
            print("try: testbed hubs" if check else "try: testbed up")
    answer(
        as_json,
        ok=not (check and changes),
        hubs={h.name: list(h.instance_names) for h in known},
        changed={str(change.path): change.words for change in changes},
    )
