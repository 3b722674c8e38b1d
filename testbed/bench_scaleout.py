"""From one notebook to the whole pool: what a map costs beside a plain `condor_submit`.

Everything is measured from a kernel in a person's own server, in turns and in a random order. Both
ways run the same interpreter on the same pool, a job a call, with a log and a file for what each
job prints; the plain one is what a person would write: a submit file, a program, `condor_wait`, and
a loop that reads the results.
"""

import json
import random
import statistics
from collections.abc import Callable

from testbed.hub_client import HubClient
from testbed.kernels import Kernel

Say = Callable[[str], None]

_TIMEOUT_S = 1800.0

_COMMON = """
import json, os, pickle, shutil, subprocess, sys, time
from pathlib import Path
from afportal import maps
CALLS = {calls}
folder = Path.home() / "bench-scaleout"
shutil.rmtree(folder, ignore_errors=True)
folder.mkdir()

def tiny(x):
    return x * x

PROGRAM = '''
import pickle, sys
def tiny(x):
    return x * x
number = int(sys.argv[1])
with open(f"results/{{number}}", "wb") as file:
    pickle.dump(tiny(number), file)
'''
SUBMIT = '''
executable = {{python}}
transfer_executable = false
should_transfer_files = NO
arguments = tiny.py $(Process)
log = log
output = output/$(Process)
error = output/$(Process)
request_memory = 128MB
request_disk = 256MB
queue {{calls}}
'''

def by_map():
    begun = time.monotonic()
    made = maps.map(tiny, range(CALLS), tag="bench-scaleout", memory_mib=128, data_token=False)
    submitted = time.monotonic() - begun
    values = list(made.wait({timeout}))
    took = time.monotonic() - begun
    assert values == [x * x for x in range(CALLS)]
    made.remove()
    return took, submitted

def by_submit():
    begun = time.monotonic()
    here = folder / "plain"
    for name in ("results", "output"):
        (here / name).mkdir(parents=True)
    (here / "tiny.py").write_text(PROGRAM)
    (here / "tiny.sub").write_text(SUBMIT.format(python=sys.executable, calls=CALLS))
    subprocess.run(["condor_submit", "tiny.sub"], cwd=here, check=True, capture_output=True)
    submitted = time.monotonic() - begun
    waited = ["condor_wait", "-wait", "{timeout}", "log"]
    subprocess.run(waited, cwd=here, check=True, capture_output=True)
    values = []
    for number in range(CALLS):
        with open(here / "results" / str(number), "rb") as file:
            values.append(pickle.load(file))
    took = time.monotonic() - begun
    assert values == [x * x for x in range(CALLS)]
    shutil.rmtree(here)
    return took, submitted

if "bench-scaleout" in maps.tags():
    maps.remove("bench-scaleout")
"""


def run(
    client: HubClient,
    *,
    calls: int,
    rounds: int,
    seed: int,
    say: Say = lambda _line: None,
) -> dict[str, float]:
    """Measure in a person's running server, and return the figures of `bench scaleout`.

    Args:
        client: The person.
        calls: Of a map, and jobs of the plain submit.
        rounds: Turns of both.
        seed: Of the order in each turn.
    """
    return _maps(client, calls, rounds, random.Random(seed), say)  # noqa: S311 - an order, no secret


def _maps(
    client: HubClient, calls: int, rounds: int, order: random.Random, say: Say
) -> dict[str, float]:
    """Seconds from the submit to the last value read here, by a map and by `condor_submit`."""
    took: dict[str, list[float]] = {"by_map": [], "by_submit": []}
    submitted: dict[str, list[float]] = {"by_map": [], "by_submit": []}
    with Kernel.start(client) as kernel:
        kernel.run(_COMMON.format(calls=calls, timeout=int(_TIMEOUT_S)))
        # Neither pays for the first claim of a slot, nor for imports.
        kernel.run(f"CALLS = 32; by_map(), by_submit(); CALLS = {calls}", _TIMEOUT_S)
        for number in range(rounds):
            for way in order.sample([*took], k=2):
                said = kernel.run(f"print(json.dumps({way}()))", _TIMEOUT_S).stdout
                whole, until = json.loads(said)
                took[way].append(whole)
                submitted[way].append(until)
                say(f"round {number + 1} {way}: {calls} calls in {whole:.1f} s")
        kernel.run("shutil.rmtree(folder, ignore_errors=True)")
    ratios = [a / b for a, b in zip(took["by_map"], took["by_submit"], strict=True)]
    return {
        "map1000_vs_submit_ratio": round(statistics.median(ratios), 3),
        "map_overhead_ms": round(1000 * statistics.median(submitted["by_map"]) / calls, 3),
        "submit_overhead_ms": round(1000 * statistics.median(submitted["by_submit"]) / calls, 3),
        "map_s": round(statistics.median(took["by_map"]), 1),
        "submit_s": round(statistics.median(took["by_submit"]), 1),
        "map_calls": calls,
        "map_rounds": rounds,
    }
