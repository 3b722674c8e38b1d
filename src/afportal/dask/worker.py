"""What a batch job runs: a Dask worker of somebody's cluster.

    python -I -m afportal.dask.worker --key credd:NAME --folder FOLDER SCHEDULER [OPTION]…

Takes its TLS key from where the scheduler left it, has the notebook's folder as its own, and
becomes Dask's own worker with the options that follow. With `--in JSON` it does the first on the
node, where the scheduler's programs are, and all the rest in a container.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from afportal import import_hook

# Here, for Dask's nanny has its processes import this module first: in a container no Python
# begins with the hook.
import_hook.install()


def main(argv: list[str] | None = None) -> None:
    """Become the worker; returns never."""
    parser = argparse.ArgumentParser(prog="afportal-dask-worker", allow_abbrev=False)
    parser.add_argument("--in", dest="where", type=json.loads, metavar="JSON", help="a container")
    parser.add_argument("--python", default="", help="in there")
    parser.add_argument(
        "--key", required=True, help="credd:NAME, sealed: on standard input, or folder:PATH"
    )
    parser.add_argument("--folder", required=True, help="of the notebook")
    parser.add_argument("--packages", default="", help="a further folder of Python packages")
    parser.add_argument("scheduler")
    args, options = parser.parse_known_args(argv)

    from afportal.dask import keys

    try:
        tls = keys.receive(args.key)
    except keys.NoKeys as error:
        sys.exit(f"afportal: {error}")
    os.environ |= keys.environment(tls)
    # The nanny's process gives all of this on to the worker's.
    os.environ |= _data_token(os.environ.get("_CONDOR_CREDS", ""))
    if args.where:
        where = {**args.where, "python": args.python or args.where.get("python")}
        further = ["--folder", args.folder, "--packages", args.packages, args.scheduler]
        _enter(where, ["--key", f"folder:{tls}", *further, *options])
    _find_portal()

    try:
        from distributed.cli import dask_worker
    except ImportError as error:
        sys.exit(
            f"afportal: {error}: workers need Dask, of the notebook's version, in the Python that "
            f"they run in, and {sys.executable} has it not"
        )

    if args.packages:
        sys.path.append(args.packages)
    if Path(args.folder).is_dir():
        # Modules beside the notebook, as in the notebook; Dask itself is imported by now.
        os.chdir(args.folder)
        sys.path.insert(0, args.folder)
    dask_worker.main([args.scheduler, *options], prog_name="dask worker")


def _enter(where: Mapping[str, Any], options: list[str]) -> NoReturn:
    """Go on in a container, where the key is at the same path: in the job's own folder."""
    from afportal.session import inside
    from afportal.session.private_folder import SessionError

    try:
        command = inside.module(where, "afportal.dask.worker", options)
        os.execve(command[0], command, inside.told(where, os.environ))
    except (OSError, SessionError) as error:
        sys.exit(f"afportal: {error}")


def _find_portal() -> None:
    """Let processes of the nanny's find these modules: in a container they are on no path."""
    import afportal
    from afportal.session.inside import MOUNTED

    above = str(Path(MOUNTED).parent)
    if MOUNTED in afportal.__path__ and above not in sys.path:
        sys.path.append(above)


def _data_token(credentials: str) -> dict[str, str]:
    """Return where HTCondor put the person's data token, if it did; Slurm's TaskProlog says so."""
    token = Path(credentials) / "data.use"
    return {"BEARER_TOKEN_FILE": str(token)} if credentials and token.is_file() else {}


if __name__ == "__main__":
    main()
