"""Notebooks that read data, run on a compute node in a kernel of their own, without a hub.

They rely on what a session sets and on nothing else, so that they run in one too.
"""

import json
from pathlib import Path
from typing import Any

from testbed.data_client import PYTHON, DataClient, put
from testbed.errors import ScenarioFailed
from testbed.notebooks import Notebook

_END_OF_TRACEBACK = 1500


def run(notebook: Notebook, client: DataClient, *, copy: Path | None = None) -> dict[str, Any]:
    """Run a notebook as the person, and return what it wrote into `NAME.json`, if it did.

    Args:
        copy: Where the executed notebook is kept.

    Raises:
        ScenarioFailed: A cell raised, or it took longer than the notebook says of itself.
    """
    name = notebook.path.name
    put(client.bed, client.service, client.folder, {name: notebook.path.read_bytes()},
        user=client.user, mode=0o600)  # fmt: skip
    done = client.run(
        ["sh", "-c", 'cd "$1" && shift && exec "$@"', "run", client.folder,
         PYTHON, "-m", "nbconvert", "--to", "notebook", "--execute", "--output", f"done-{name}",
         f"--ExecutePreprocessor.timeout={notebook.timeout_s:.0f}", name],
        # A session has the environment's programs first.
        environment={"PATH": f"{Path(PYTHON).parent}:/usr/local/bin:/usr/bin:/bin"},
        timeout_s=notebook.timeout_s + 60,
    )  # fmt: skip
    if not done.ok:
        raise ScenarioFailed(f"{name} fails", seen=done.stderr[-_END_OF_TRACEBACK:])
    if copy is not None:
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(client.run(["cat", f"{client.folder}/done-{name}"]).stdout)
    result = client.run(["cat", f"{client.folder}/{notebook.name}.json"])
    found: dict[str, Any] = json.loads(result.stdout) if result.ok else {}
    return found
