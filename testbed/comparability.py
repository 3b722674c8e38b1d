"""Whether two results files can be compared, and what else differs between them."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from testbed.results import Results, SpawnRecord

# How often was spawned shows in the interval; the backends are looked at in the spawns.
_MAY_DIFFER = {"rounds", "backends", "seed"}


@dataclass(frozen=True)
class Pair:
    """A baseline and a candidate, limited to the backends that are compared."""

    baseline: Results
    candidate: Results
    only: tuple[str, ...] = ()

    @property
    def backends(self) -> list[str]:
        """What both have spawns on, in the baseline's order."""
        other = {r.backend for r in _portals(self.candidate)}
        return [name for name in self._backends(self.baseline) if name in other]

    def spawns(self, side: Results, backend: str) -> list[SpawnRecord]:
        """What was judged; where the harness itself broke, nothing was."""
        return [r for r in _portals(side) if r.backend == backend and r.outcome != "bed_broke"]

    def problems(self) -> list[str]:
        """Each reason, with its cure, why the two say nothing about each other."""
        baseline, candidate = self.baseline, self.candidate
        found = []
        if baseline.command != candidate.command:
            found.append(
                f"command: `{baseline.command}` against `{candidate.command}`; "
                "measure both by the same benchmark"
            )
        if _kind(baseline) != _kind(candidate):
            found.append(
                f"site: {_kind(baseline)} against {_kind(candidate)}; measure both at the same"
            )
        names = baseline.settings.keys() | candidate.settings.keys()
        for name in sorted(names - _MAY_DIFFER):
            values = baseline.settings.get(name), candidate.settings.get(name)
            if values[0] != values[1]:
                found.append(
                    f"setting {name}: {_shown(values[0])} against {_shown(values[1])}; "
                    "measure both with the same"
                )
        return found + self._missing() + self._unlike()

    def warnings(self) -> list[str]:
        """What differs and may be why the figures do, though it does not forbid comparing."""
        baseline, candidate = self.baseline, self.candidate
        found = []
        before, after = baseline.machine.model_dump(), candidate.machine.model_dump()
        found += [
            f"machine: {name} {before[name]} → {after[name]}"
            for name in before
            if before[name] != after[name]
        ]
        for name in sorted(baseline.versions.keys() | candidate.versions.keys()):
            was, now = baseline.versions.get(name), candidate.versions.get(name)
            if was != now:
                found.append(f"version of {name}: {_shown(was)} → {_shown(now)}")
        if baseline.spawns and baseline.spawns == candidate.spawns:
            found.append("both files hold the same spawns: nothing new was measured")
        elif candidate.begin < baseline.begin:
            found.append("the candidate was measured before the baseline: are they swapped?")
        for title, side in (("baseline", baseline), ("candidate", candidate)):
            broke = sum(r.outcome == "bed_broke" for r in _portals(side))
            if broke:
                found.append(f"{title}: {broke} spawns left out, in which the harness broke")
        return found

    def _missing(self) -> list[str]:
        """Backends that only one side has spawns on, or that were asked for in vain."""
        sides = (("baseline", self.baseline), ("candidate", self.candidate))
        empty = [title for title, side in sides if not _portals(side)]
        if empty:
            return [
                f"spawns: none in the {title}; measure with `testbed bench spawn`"
                for title in empty
            ]
        has = {title: self._backends(side) for title, side in sides}
        wanted = self.only or tuple(dict.fromkeys(has["baseline"] + has["candidate"]))
        shared = " ".join(f"--backend {name}" for name in self.backends)
        cure = f"compare with {shared}" if shared else "measure the same backends"
        found = []
        for backend in wanted:
            lacking = [title for title in has if backend not in has[title]]
            if len(lacking) == 2:
                found.append(f"backend {backend}: no spawns in either; {cure}")
            elif lacking:
                found.append(f"backend {backend}: no spawns in the {lacking[0]}; {cure}")
        return found

    def _unlike(self) -> list[str]:
        """Hubs and options that differ on a backend that both have, and stamps that cannot be."""
        found = []
        for backend in self.backends:
            before = self.spawns(self.baseline, backend)
            after = self.spawns(self.candidate, backend)
            for what, was, now in (
                ("hubs", {r.hub for r in before}, {r.hub for r in after}),
                ("options", _options(before), _options(after)),
            ):
                # Where the harness broke throughout, it is too few spawns that are to be told.
                if was and now and was != now:
                    found.append(
                        f"{what} of {backend}: {_listed(was)} against {_listed(now)}; "
                        "measure both with the same"
                    )
            for title, records in (("baseline", before), ("candidate", after)):
                wrong = sum(not _plausible(record) for record in records)
                if wrong:
                    found.append(
                        f"stamps of {backend} in the {title}: {wrong} spawns are ready without "
                        "having been so after their click; the file was changed, or the clock "
                        "was: measure again"
                    )
        return found

    def _backends(self, side: Results) -> list[str]:
        names = dict.fromkeys(r.backend for r in _portals(side))
        return [name for name in names if not self.only or name in self.only]


def _portals(side: Results) -> list[SpawnRecord]:
    """The portal's spawns, not those of what it was compared with, and none of a burst."""
    return [r for r in side.spawns if r.target == "portal" and not r.burst]


def _plausible(record: SpawnRecord) -> bool:
    ready_s = record.since_click("ready")
    # Not a number, and an end of time, are no more a span than a negative one.
    return record.outcome != "ready" or (ready_s is not None and 0 < ready_s < float("inf"))


def _options(records: Iterable[SpawnRecord]) -> set[str]:
    return {
        ", ".join(f"{name}={value}" for name, value in sorted(record.options.items()))
        for record in records
    }


def _kind(results: Results) -> str:
    """A testbed is as good as another; a facility is one of a kind.

    A testbed's results hold its pins, named as in `versions.env`; a facility tells none.
    """
    if any(name.isupper() for name in results.versions):
        return "a testbed"
    return f"facility {results.site}"


def _listed(values: Collection[str]) -> str:
    return " / ".join(sorted(value or "none" for value in values))


def _shown(value: object) -> str:
    return "not set" if value is None else str(value)
