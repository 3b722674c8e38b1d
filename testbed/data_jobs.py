"""Jobs that a person submits from a session, and what they read of the facility's data."""

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

from testbed.errors import ScenarioFailed
from testbed.hub_client import HubClient
from testbed.kernels import Kernel
from testbed.promises import expect_within

_RENEWAL_S = 90  # each scheduler that does not answer is waited for

# Reads through the cache until its token is another than at first; a line for each read.
_JOB = """
import hashlib, json, os, pathlib, subprocess, time
token = pathlib.Path(os.environ["BEARER_TOKEN_FILE"])
URL = "root://xcache//data/cms/met/manifest.json"
seen = set()
for _ in range(300):
    done = subprocess.run(["xrdcp", "-f", "--silent", URL, "-"], capture_output=True, text=True)
    seen.add(hashlib.sha256(token.read_bytes()).hexdigest())
    print(json.dumps({"code": done.returncode, "begins": done.stdout[:1], "said": done.stderr,
                      "mode": oct(token.stat().st_mode & 0o777), "token": max(seen),
                      "tokens": len(seen)}), flush=True)
    if len(seen) > 1:
        break
    time.sleep(1)  # nothing tells a job that its token is new
"""
_BEGIN = """
import os, pathlib, subprocess, tempfile
folder = pathlib.Path(tempfile.mkdtemp(dir=pathlib.Path.home(), prefix="data-in-jobs-"))
(folder / "job.py").write_text({job!r})
(folder / "job.sub").write_text(f'''
executable = /opt/envs/notebook/bin/python
arguments = {{folder}}/job.py
use_oauth_services = data
output = {{folder}}/out
error = {{folder}}/error
should_transfer_files = NO
queue
''')
argv = {{"htcondor": ["condor_submit", "-terse", f"{{folder}}/job.sub"],
         "slurm": ["sbatch", "--parsable", "--time=10", f"--output={{folder}}/out",
                   f"--error={{folder}}/error",
                   f"--wrap=exec /opt/envs/notebook/bin/python {{folder}}/job.py"]}}["{scheduler}"]
done = subprocess.run(argv, capture_output=True, text=True)
assert done.returncode == 0, done.stderr
job = done.stdout.split()[0]
print(job)
"""
_SEEN = """
import json
told = [path.read_text() if path.exists() else "" for path in (folder / "out", folder / "error")]
print(json.dumps(told))
"""
_END = """
import shutil
subprocess.run({"htcondor": ["condor_rm", job], "slurm": ["scancel", job]}["%s"])
shutil.rmtree(folder, ignore_errors=True)
"""


def missing(client: HubClient, *, renew: bool = False) -> dict[str, str]:
    """What a session says that it lacks, and why; after it has renewed its secrets if asked."""
    answer = client.request(
        "POST" if renew else "GET",
        f"{client.server_path()}/api/af/secrets",
        timeout_s=_RENEWAL_S,
    )
    answer.raise_for_status()
    told: dict[str, str] = answer.json()["missing"]
    return told


@contextlib.contextmanager
def reading(
    client: HubClient, kernel: Kernel, scheduler: str
) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Submit a job to "htcondor" or "slurm" from a person's kernel; remove it in the end.

    Yields:
        What tells the job's reads until now: exit code `code`, how the file `begins`, what was
        `said`, the token file's `mode`, a digest of its `token`, and how many `tokens` it had.
    """
    expect_within(30, lambda: not missing(client), what="the schedulers have the session's token")
    kernel.run(_BEGIN.format(job=_JOB, scheduler=scheduler))

    def reads() -> list[dict[str, Any]]:
        out, error = json.loads(kernel.run(_SEEN).stdout)
        if error.strip():
            raise ScenarioFailed(f"a job on {scheduler} went wrong", seen=error[-1500:])
        return [json.loads(line) for line in out.splitlines(keepends=True) if line.endswith("\n")]

    try:
        expect_within(120, lambda: bool(reads()), what=f"a job on {scheduler} has read once")
        yield reads
    finally:
        # A server closes a web socket on which no ping was answered for a while, and nobody reads
        # this one while its scenario searches elsewhere, in an image say.
        kernel.reconnect()
        kernel.run(_END % scheduler)
