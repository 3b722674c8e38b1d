"""`testbed gate --self-check`: whether the gate, here and now, tells a slower build from the same.

The testbed's own build is measured as a baseline, ten times more, and once with a delay planted in
its hubs' spawners; each run is then judged against the baseline as any candidate would be.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from testbed import bench_spawn, faults, gate
from testbed.bed import Bed
from testbed.comparability import Pair
from testbed.errors import TestbedError, UsageError
from testbed.gate import LEAST_SPAWNS, Judgement, Rules
from testbed.results import Results, spans
from testbed.site import Site

REPEATS = 10
DELAY = 0.20  # of the baseline's median
LIMIT_S = 15 * 60


@dataclass
class SelfCheck:
    """What came out.

    Args:
        delay_s: what was planted: `DELAY` of the baseline's median of `ready`.
        rounds: spawns a run.
        delayed: the gate's judgement of the run with the delay.
        repeats: its judgements of the same build's.
        elapsed_s: for all of it.
    """

    rounds: int
    delay_s: float = 0.0
    delayed: Judgement | None = None
    repeats: list[Judgement] = field(default_factory=list)
    elapsed_s: float = 0.0

    @property
    def caught(self) -> bool:
        """Whether the delayed run is called slower; that it fails more would not do."""
        return self.delayed is not None and any(
            c.judged and c.verdict == "slower" for c in self.delayed.totals
        )

    @property
    def alarms(self) -> int:
        """How many repeats of the same build are one too."""
        return sum(not judgement.ok for judgement in self.repeats)

    @property
    def failures(self) -> list[str]:
        """What the gate did not do here, with the cure."""
        found = []
        if not self.caught:
            found.append(
                f"a delay of {self.delay_s:.2f} s ({DELAY:.0%}) was not caught; measure more "
                "spawns (--rounds), on a machine that does nothing else"
            )
        if self.alarms:
            found.append(
                f"{self.alarms} of {len(self.repeats)} repeats of the same build were called a "
                "regression; runs differ too much here: a quieter machine, or a --minimum-effect "
                "above what they differ by"
            )
        return found

    def figures(self) -> dict[str, float]:
        """Figures of the check, and of the ratios that it saw."""
        seen = [c.ratio.value for j in self.repeats for c in j.totals if c.judged]
        found: dict[str, float] = {
            "delay_caught": int(self.caught),
            "false_alarms": self.alarms,
            "repeats": len(self.repeats),
            "rounds": self.rounds,
            "planted_delay_s": round(self.delay_s, 4),
            "self_check_s": round(self.elapsed_s, 1),
        }
        if seen:
            found |= {
                "repeats_ratio_min": round(min(seen), 4),
                "repeats_ratio_max": round(max(seen), 4),
            }
        if self.delayed:
            found["delayed_ratio"] = round(
                max((c.ratio.value for c in self.delayed.totals if c.judged), default=0.0), 4
            )
        return found


def run(
    bed: Bed,
    site: Site,
    *,
    environ: Mapping[str, str],
    folder: Path,
    loadtests_folder: Path,
    backend: str,
    rounds: int,
    rules: Rules,
    say: Callable[[str], None],
) -> SelfCheck:
    """Measure and judge; the delayed run comes in the middle.

    Args:
        folder: gets a folder for each of the twelve runs.
        rounds: spawns a run; fewer where they would take more than `LIMIT_S` in all.

    Raises:
        UsageError: the rules cannot see the delay that is planted.
        TestbedError: not even `LEAST_SPAWNS` a run fit into the time, or the testbed broke.
    """
    if rules.minimum_effect >= DELAY or rules.figures != ("ready",):
        raise UsageError(
            f"the self-check plants {DELAY:.0%} of the time to ready",
            cure=f"judge ready alone, with a --minimum-effect below {100 * DELAY:g}",
        )
    begun_s = time.monotonic()
    last_s = 0.0

    def measured(name: str, count: int) -> Results:
        nonlocal last_s
        began_s = time.monotonic()
        left_s = LIMIT_S - (began_s - begun_s)
        if left_s < last_s:
            raise TestbedError(
                f"{name}: {left_s:.0f} s of {LIMIT_S / 60:g} min are left, and the last run took "
                f"{last_s:.0f} s: this machine has become slower meanwhile",
                cure=f"a quieter machine; the runs until now are in {folder}",
            )
        say(f"{name}: {count} spawns on {backend}")
        results = bench_spawn.run(
            site,
            bed.settings.site_file,
            environ=environ,
            folder=folder / name,
            loadtests_folder=loadtests_folder,
            backends=[backend],
            rounds=count,
            timeout_s=min(60.0, left_s),
            bed=bed,
            say=lambda _line: None,
        ).results
        last_s = time.monotonic() - began_s
        return results

    # It also warms what a first run would find cold.
    trial = measured("trial", LEAST_SPAWNS)
    trial_s = time.monotonic() - begun_s
    left_s = LIMIT_S - trial_s
    fitting = int(left_s / (REPEATS + 2) / (trial_s / len(trial.spawns)))
    if fitting < LEAST_SPAWNS:
        raise TestbedError(
            f"{LEAST_SPAWNS} spawns took {trial_s:.0f} s: {REPEATS + 2} runs of as many do not "
            f"fit into {LIMIT_S / 60:g} min",
            cure="a quieter or faster machine",
        )
    if fitting < rounds:
        say(f"{fitting} spawns a run, not {rounds}: more do not fit into {LIMIT_S / 60:g} min")
    check = SelfCheck(min(rounds, fitting))
    baseline = measured("baseline", check.rounds)
    ready = spans(baseline.spawns, backend, "ready")
    if not ready:
        raise TestbedError(f"no spawn on {backend} became ready", cure="testbed smoke")
    check.delay_s = DELAY * statistics.median(ready)

    def judged(candidate: Results) -> Judgement:
        return gate.judge(Pair(baseline, candidate), rules)

    for number in range(1, REPEATS + 1):
        if number == REPEATS // 2 + 1:
            with faults.delayed_spawns(bed, check.delay_s):
                check.delayed = judged(measured("delayed", check.rounds))
        check.repeats.append(judged(measured(f"repeat-{number:02d}", check.rounds)))
    check.elapsed_s = time.monotonic() - begun_s
    return check
