"""`afportal add`, `list` and `remove`: one's own environments, from a cell of a notebook."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from afportal import own_catalogue, own_sources
from afportal.catalogue import OWN, problems
from afportal.containers import Container
from afportal.kernels import kernel_argv
from afportal.own_environments import OwnCatalogue, OwnEnvironment
from afportal.own_sources import NotUsable, Source

# In the kernel.json of those that are removed with what they belong to.
_MARK = "afportal"


def add_parsers(deeds: Any) -> None:
    """Add these commands to the program's."""
    add = deeds.add_parser("add", help="offer an environment, a container or a kernel of your own")
    add.add_argument(
        "path",
        help="folder with bin/python, SIF file, container in a folder, or folder or repository "
        "with a requirements.txt",
    )
    add.add_argument("--name", help="default: the path's last part")
    add.add_argument("--title", default="", help="what the spawn form says")
    add.add_argument("--kernel", action="store_true", help="a kernel, though it could be a server")
    add.add_argument("--python", default="/usr/bin/python3", help="of a container")
    add.add_argument(
        "--bind", action="append", default=[], metavar="PATH[:THERE[:rw]]",
        help="mounted into a container",
    )  # fmt: skip
    add.add_argument(
        "--env", action="append", default=[], metavar="NAME=VALUE", help="set in a container"
    )
    add.add_argument(
        "--pass-on", action="append", default=[], metavar="NAME",
        help="a variable that a container gets as it is here, such as PATH",
    )  # fmt: skip
    deeds.add_parser("list", help="what you added")
    remove = deeds.add_parser("remove", help="offer one of them no more")
    remove.add_argument("name")


def run(args: argparse.Namespace) -> int:
    """Do one of them; 0: done, 1: refused."""
    try:
        match args.deed:
            case "add":
                return _add(args)
            case "remove":
                return _remove(args.name)
            case _:
                return _list()
    except ValidationError as error:
        print(f"not taken: {problems(error)}", file=sys.stderr)
    except (NotUsable, ValueError, OSError) as error:
        print(f"not taken: {error}", file=sys.stderr)
    return 1


def _add(args: argparse.Namespace) -> int:
    name = args.name or _name_of(args.path)
    # Everything that can be wrong with what was typed is told before anything is made.
    is_data = args.bind or args.env or args.pass_on
    wanted = _entry(args, name, Source(image="/-") if is_data else Source(prefix="/-"))
    known = own_catalogue.load()
    others = tuple(e for e in known.environments if e.name != name)
    OwnCatalogue(environments=(*others, wanted))
    path = args.path
    if own_sources.is_repository(path):
        path = own_sources.fetched(path, name)
    found = own_sources.look(Path(path).expanduser().resolve(), name, args.python)
    entry = _entry(args, name, found)
    own = OwnCatalogue(environments=(*others, entry))
    said = _told(own, f"{OWN}{name}")
    _forget_kernel(name)
    if entry.kernel:
        _keep_kernel(entry)
    own_catalogue.save(own)
    print(f"added {_kind(entry)} {name}: {entry.place}")
    if entry.kernel:
        print("it is in the launcher of every server of yours that is not in a container")
    print(said)
    return 0


def _told(own: OwnCatalogue, wanted: str) -> str:
    """Tell the hub; returns what to say of it. Raises `NotUsable` where it refuses."""
    try:
        offered = own_catalogue.send(own)
    except own_catalogue.Refused as error:
        raise NotUsable(str(error)) from error
    except own_catalogue.NotTaken as error:
        return str(error)
    if wanted and wanted not in offered:
        raise NotUsable("this facility starts no containers: it could not be offered")
    return f"the next start of a server offers it under Yours, as {wanted}"


def _kind(entry: OwnEnvironment) -> str:
    return "kernel" if entry.kernel else "container" if entry.container else "environment"


def _name_of(path: str) -> str:
    """A name from a path's last part."""
    last = path.rstrip("/").rsplit("/", 1)[-1].removesuffix(".git").removesuffix(".sif")
    if last in ("", ".", ".."):
        last = Path(path).expanduser().resolve().name
    return re.sub(r"[^a-z0-9_-]+", "-", last.lower()).strip("-_")[:31]


def _entry(args: argparse.Namespace, name: str, found: Source) -> OwnEnvironment:
    """What the catalogue will say. Raises ValidationError."""
    container = None
    if found.image:
        container = Container.model_validate(
            {
                "image": found.image,
                "python": args.python,
                "bind": [_bind(text) for text in args.bind],
                "environment": dict(_variable(text) for text in args.env),
                "pass_on": args.pass_on,
            }
        )
    elif args.bind or args.env or args.pass_on:
        raise NotUsable("--bind, --env and --pass-on are for containers, and this is a folder")
    return OwnEnvironment(
        name=name,
        title=args.title,
        prefix="" if container is not None else found.prefix,
        container=container,
        kernel=args.kernel or not found.server,
    )


def _bind(text: str) -> dict[str, object]:
    source, _, rest = text.partition(":")
    target, _, way = rest.partition(":")
    if way not in ("", "ro", "rw"):
        raise NotUsable(f"--bind {text}: PATH, PATH:THERE or PATH:THERE:rw is wanted")
    return {"source": source, "target": target, "writable": way == "rw"}


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise NotUsable(f"--env {text}: NAME=VALUE is wanted")
    return name, value


def _list() -> int:
    own = own_catalogue.load()
    for entry in own.environments:
        print(f"{entry.name}\t{_kind(entry)}\t{entry.place}\t{entry.title}".rstrip())
    if not own.environments:
        print("nothing added yet; afportal add PATH")
    return 0


def _remove(name: str) -> int:
    known = own_catalogue.load()
    own = OwnCatalogue(environments=tuple(e for e in known.environments if e.name != name))
    if own == known:
        names = ", ".join(e.name for e in known.environments) or "none"
        raise NotUsable(f"there is no {name} among yours: {names}")
    own_catalogue.save(own)
    _forget_kernel(name)
    for kind in ("environments", "repositories"):
        made = own_sources.data_folder() / kind / name
        if own_sources.runs_here(made):
            print(f"{made} stays: this server runs in it; delete it when that has ended")
        else:
            shutil.rmtree(made, ignore_errors=True)
    print(f"removed {name}")
    try:
        own_catalogue.send(own)
    except own_catalogue.NotTaken as error:
        print(error)
    return 0


def _kernel_folder(name: str) -> Path:
    data = os.environ.get("JUPYTER_DATA_DIR") or Path.home() / ".local" / "share" / "jupyter"
    return Path(data) / "kernels" / f"own-{name}"


def _keep_kernel(entry: OwnEnvironment) -> None:
    """Write a kernel.json where Jupyter looks in every server of the person's."""
    python = entry.container.python if entry.container else f"{entry.prefix}/bin/python"
    argv = (python, "-m", "ipykernel_launcher", "-f", "{connection_file}")
    specification = {
        "argv": kernel_argv(argv, entry.container, sys.executable),
        "display_name": entry.title or entry.name,
        "language": "python",
        "metadata": {_MARK: True},
    }
    folder = _kernel_folder(entry.name)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "kernel.json").write_text(json.dumps(specification, indent=1) + "\n")


def _forget_kernel(name: str) -> None:
    folder = _kernel_folder(name)
    try:
        ours = json.loads((folder / "kernel.json").read_text())["metadata"][_MARK]
    except (OSError, ValueError, KeyError, TypeError):
        return
    if ours:
        shutil.rmtree(folder, ignore_errors=True)
