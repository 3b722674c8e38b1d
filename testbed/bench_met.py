"""What the cache is worth to an analysis: the MET notebook for the first and for the second time.

The origin is far away (20 MB a second) and the cache is empty; each time is a kernel of its own.
What counts is the analysis as the notebook takes it: from the first file opened to the histogram.
"""

from collections.abc import Callable
from dataclasses import replace

from testbed import data_notebooks, extra_cache, notebooks
from testbed.bed import Bed
from testbed.data_client import DataClient, Records, is_hit, is_miss
from testbed.errors import ScenarioFailed

Say = Callable[[str], None]

_SECOND_RUNS = 3
_LOOKED_AT = "/data/cms/met/part-0.root"


def run(bed: Bed, reader: DataClient, say: Say) -> dict[str, float]:
    """Measure, and return the figures; of the runs after the first the median counts.

    Args:
        reader: Somebody who may read the data set.

    Raises:
        ScenarioFailed: The notebook found wrong numbers, or read something else than it did before.
        TestbedError: Origin or cache did not come up.
    """
    book = bed.settings.home / "scenarios" / "notebooks" / "data"
    notebook = notebooks.read(book / "met.ipynb")
    with (
        extra_cache.far_origin(bed) as address,
        extra_cache.run(bed, "met", {}, origin_address=address) as cache,
    ):
        client = replace(reader, environment={**reader.environment, "XCACHE_HOST": cache.host})
        runs = []
        for number in range(1 + _SECOND_RUNS):
            records = Records(bed)
            found = data_notebooks.run(notebook, client)
            _expect(number == 0, records)
            runs.append(found)
            say(f"MET notebook, run {number + 1}: {found['analysis_s']:.2f} s")
    if any(found["met"] != runs[0]["met"] for found in runs):
        raise ScenarioFailed("the MET notebook found another histogram the second time")
    first_s = runs[0]["analysis_s"]
    second_s = sorted(found["analysis_s"] for found in runs[1:])[_SECOND_RUNS // 2]
    return {
        "met_second_vs_first_ratio": round(first_s / second_s, 2),
        "met_first_s": round(first_s, 2),
        "met_second_s": round(second_s, 2),
        "met_second_cpu_s": round(min(found["cpu_s"] for found in runs[1:]), 2),
        "met_read_mb": round(runs[0]["bytes_read"] / 1e6, 1),
    }


def _expect(first: bool, records: Records) -> None:
    """A first run fills the cache, a second one only asks it; else nothing was measured."""
    seen = records.of(_LOOKED_AT)
    if not (any(map(is_miss, seen)) if first else is_hit(seen[-1])):
        wanted = "from the origin" if first else "from the cache alone"
        raise ScenarioFailed(f"{_LOOKED_AT} did not come {wanted}", seen=str(seen[-1]))
