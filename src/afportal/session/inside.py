"""Goes into a container, or a folder of the person's own, and becomes the session there.

    python -I -m afportal.session.inside --in JSON --hub … --ca … --code-from credd:NAME
    python -I -m afportal.session.inside --in JSON --run COMMAND [ARGUMENT]…

The first takes the one-time code from where the scheduler left it and hands it on through a pipe:
it stands in no argument and no environment inside. The session's modules come along from the
node, so that an image needs JupyterLab and JupyterHub and nothing of the portal. The second is
a kernel of a server outside.

What is entered is data of the catalogue's (`afportal.containers.Container`, or {"prefix": …});
nothing of it goes through a shell.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from afportal.session.__main__ import read_code
from afportal.session.private_folder import COFFEA_CASA, SessionError, is_jobs_own, places

PACKAGE = Path(__file__).parents[1]
# Where the portal's modules are in a container, and its command.
MOUNTED = "/.afportal/afportal"
# The same of what JupyterLab shows of the session, and where a node has it.
LABEXTENSIONS = "/.afportal/labextensions"
_LABEXTENSION = "share/jupyter/labextensions/@afportal"
COMMAND = Path(__file__).with_name("afportal-command")
_PROGRAM = "apptainer"
_FOLDERS = "/usr/local/bin:/usr/bin:/bin"
# What a process in a container knows it by: what was entered, and by which Python of the node.
CONTAINER = "AF_CONTAINER"
LAUNCHER = "AF_LAUNCHER"
# Becomes a module of `afportal`, which is the folder of the first argument and nothing else.
_BECOME = """\
import importlib.util, runpy, sys
_, folder, module, *rest = sys.argv
sys.argv = [module, *rest]
spec = importlib.util.spec_from_file_location(
    "afportal", folder + "/__init__.py", submodule_search_locations=[folder])
sys.modules["afportal"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["afportal"])
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


def program() -> str:
    """Return what starts containers here.

    Raises:
        SessionError: there is none.
    """
    if found := shutil.which(_PROGRAM, path=_FOLDERS):
        return found
    raise SessionError(f"no {_PROGRAM} in {_FOLDERS}: no container can be started")


def jobs_own() -> Iterator[str]:
    """Yield the job's folders that must be at the same path inside: secrets and scratch."""
    seen = set()
    found = [*places()]
    if os.environ.get("AF_SECRETS"):
        found.append(Path(os.environ["AF_SECRETS"]))
    if is_jobs_own(COFFEA_CASA):
        found.append(COFFEA_CASA)
    for folder in found:
        if folder.is_dir() and folder not in seen:
            seen.add(folder)
            yield str(folder)


def labextension() -> list[str]:
    """Return the folder of what JupyterLab shows of the session, if this node has it."""
    places = (Path(prefix) / _LABEXTENSION for prefix in (sys.prefix, "/usr/local", "/usr"))
    return [str(place) for place in places if place.is_dir()][:1]


def contained(where: Mapping[str, Any], argv: list[str]) -> list[str]:
    """Return the command that runs another one in a container.

    Source: apptainer exec's manual, 1.4. Each mount is an argument of its own, and the catalogue
    takes no path with a separator in it.
    """
    mounts = [
        f"{PACKAGE}:{MOUNTED}:ro",
        f"{COMMAND}:/usr/local/bin/afportal:ro",
        *(f"{folder}:{LABEXTENSIONS}/@afportal:ro" for folder in labextension()),
        *(f"{folder}:{folder}:rw" for folder in jobs_own()),
    ]
    for bind in where.get("bind", ()):
        way = "rw" if bind.get("writable") else "ro"
        mounts.append(f"{bind['source']}:{bind.get('target') or bind['source']}:{way}")
    return [
        program(), "--quiet", "exec", "--no-eval",
        *(["--nv"] if where.get("nvidia") else []),
        *(argument for mount in mounts for argument in ("--bind", mount)),
        where["image"], *argv,
    ]  # fmt: skip


def told(where: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, str]:
    """Return a job's environment with what the container is told; it sees all the others too."""
    passed = {name: environment[name] for name in where.get("pass_on", ()) if name in environment}
    wanted = {**passed, **where.get("environment", {})}
    # What runs in there, as a kernel, finds the portal's modules after those of its own.
    own = wanted.get("PYTHONPATH") or environment.get("PYTHONPATH", "")
    wanted["PYTHONPATH"] = ":".join(filter(None, (own, str(Path(MOUNTED).parent))))
    return {
        **environment,
        CONTAINER: json.dumps(where),
        LAUNCHER: sys.executable,
        **{f"APPTAINERENV_{name}": value for name, value in wanted.items()},
    }


def module(where: Mapping[str, Any], name: str, options: list[str]) -> list[str]:
    """Return the command that becomes a module of the portal's in there.

    Args:
        where: a container, or {"prefix": a folder with bin/python}.
    """
    if "image" not in where:
        return [f"{where['prefix']}/bin/python", "-I", "-c", _BECOME, str(PACKAGE), name, *options]
    python = where.get("python", "/usr/bin/python3")
    return contained(where, [python, "-I", "-c", _BECOME, MOUNTED, name, *options])


def session(where: Mapping[str, Any], options: list[str], started_s: float) -> list[str]:
    """Return the command that becomes the session in there.

    Args:
        options: its own, with where the code is no more among them.
    """
    options = [*options, "--code-from", "stdin", "--started", str(started_s)]
    return module(where, "afportal.session", options)


def hand_on(code: str) -> None:
    """Make the code what is read from standard input, by whatever this process becomes."""
    reader, writer = os.pipe()
    os.write(writer, f"{code}\n".encode())
    os.close(writer)
    os.dup2(reader, 0)
    os.close(reader)


def main(argv: list[str] | None = None) -> None:
    """Become the session, or a command, in there."""
    started_s = time.time()
    parser = argparse.ArgumentParser(prog="afportal-inside", allow_abbrev=False)
    parser.add_argument("--in", dest="where", required=True, type=json.loads, metavar="JSON")
    parser.add_argument("--code-from", help="credd:NAME, env:NAME or stdin")
    parser.add_argument("--run", nargs=argparse.REMAINDER, metavar="COMMAND")
    args, options = parser.parse_known_args(argv)
    try:
        if args.run:
            command = contained(args.where, args.run)
        else:
            command = session(args.where, options, started_s)
            hand_on(read_code(args.code_from or ""))
        os.execve(command[0], command, told(args.where, os.environ))
    except (OSError, SessionError) as error:
        sys.exit(f"afportal: {error}")


if __name__ == "__main__":
    main()
