"""The proof that a facility works: spawn everywhere, run notebooks, show the latencies."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from testbed import latency_table, notebooks, orphans, settings
from testbed.bed import Bed
from testbed.errors import ScenarioFailed, UsageError
from testbed.hub_client import HubClient
from testbed.logins import Logins
from testbed.notebooks import Meets, Notebook
from testbed.results import Results, Run, SpawnRecord, latency_figures
from testbed.round_trip import RoundTrip
from testbed.site import BACKENDS, Site


@dataclass
class Verdict:
    """What was judged: the results, and each thing that was not as promised."""

    results: Results
    failures: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.failures

    @property
    def figures(self) -> dict[str, float]:
        return self.results.figures


def run(
    site: Site,
    *,
    environ: Mapping[str, str],
    folder: Path,
    notebooks_folder: Path,
    bed: Bed | None = None,
    backends: Sequence[str] = (),
    rounds: int = 10,
    timeout_s: float = 120.0,
    console: Console | None = None,
) -> Verdict:
    """Prove a facility: spawns on each backend of its hubs, then notebooks in the last server.

    Args:
        site: What to judge.
        environ: Where secrets named by variable are looked up.
        folder: The run's report folder; gets `results.json` and the executed notebooks.
        notebooks_folder: The notebooks to run.
        bed: The testbed behind the site, where there is one: its queues are then searched
            for orphans.
        backends: Only these; by default all that the site has.
        rounds: Spawns on each backend of a hub.
        timeout_s: Longest wait for a server, a kernel, a cell and a stop, each.
        console: Where progress is shown; by default standard error.

    Raises:
        UsageError: A backend that the site does not have, or no way to log in.
        LoginRefused: The hub does not let the person in.
    """
    chosen = list(backends) or [name for name in BACKENDS if name in site.backends]
    for backend in chosen:
        site.backend(backend)
    routes = [(hub, backend) for hub, backend in site.routes() if backend in chosen]
    if rounds < 1:
        raise UsageError("at least one round is needed", seen=f"rounds = {rounds}")
    console = console or Console(stderr=True)
    book = notebooks.find(notebooks_folder)
    measured = Run(
        "smoke", site.name, {"rounds": rounds, "backends": ",".join(chosen), "timeout_s": timeout_s}
    )
    proof = _Proof(site, folder)
    people = site.people("person") or site.people()
    with Logins(site, environ) as logins, _progress(console) as progress:
        # Each route is measured with one person; the next takes the next person. All log
        # in first: who cannot shall not be found out after minutes.
        clients = [
            logins.client(people[n % len(people)].name, hub=hub)
            for n, (hub, _) in enumerate(routes)
        ]
        for client, (hub, backend) in zip(clients, routes, strict=True):
            trip = RoundTrip(
                client,
                hub=hub.name,
                backend=backend,
                options=site.backend(backend).options,
                timeout_s=timeout_s,
            )
            task = progress.add_task(f"{hub.name}, {backend}: spawn as {client.user}", total=rounds)
            say = functools.partial(progress.update, task)
            proof.prove(trip, hub.name, backend, rounds, for_backend(book, backend, site), say)
        figures = latency_figures(proof.records, chosen)
        figures |= {"notebooks_passed": proof.passed, "notebooks_failed": proof.failed}
        # Kept before the queues are asked: a testbed that broke by now must not take them along.
        versions = facility_versions(logins, bed)
        results = measured.results(proof.records, figures, versions, proof.failures)
        results.write(folder)
        left = orphans_left(bed, logins, site, proof.failures)
    if left is not None:
        figures["orphans"] = left
        results = measured.results(proof.records, figures, versions, proof.failures)
        results.write(folder)
    return Verdict(results, proof.failures)


@dataclass
class _Proof:
    """What has been seen so far."""

    site: Site
    folder: Path
    records: list[SpawnRecord] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    passed: int = 0
    failed: int = 0

    def prove(
        self,
        trip: RoundTrip,
        hub: str,
        backend: str,
        rounds: int,
        book: Sequence[Notebook],
        say: Callable[..., None],
    ) -> None:
        """Spawn so often on a backend, and run the notebooks in the last server."""

        def read_all(client: HubClient, server: str) -> None:
            for notebook in book:
                say(description=f"{backend}: {notebook.name}.ipynb")
                self._read(notebook, hub, backend, client, server)

        for number in range(rounds):
            last = number == rounds - 1
            record = trip.run(number, while_running=read_all if last else None)
            self.records.append(record)
            say(advance=1)
            if record.outcome != "ready":
                self.failures.append(f"{hub}, {backend} as {record.user}: {record.reason}")
                if last:
                    self.failed += len(book)

    def _read(
        self, notebook: Notebook, hub: str, backend: str, client: HubClient, server: str
    ) -> None:
        try:
            notebooks.run(
                notebook,
                client,
                server,
                copy=self.folder / hub / backend / notebook.path.name,
                parameters=expected(self.site, client.user) if notebook.takes_parameters else None,
            )
            self.passed += 1
        except ScenarioFailed as error:
            self.failed += 1
            self.failures.append(
                f"{notebook.name}.ipynb on {backend} of {hub} as {client.user}: {error}"
            )


def show(verdict: Verdict, console: Console) -> None:
    """Print the latency table, of the portal's own spawns, and what failed."""
    records = [r for r in verdict.results.spawns if r.target == "portal" and not r.burst]
    backends = list(dict.fromkeys(record.backend for record in records))
    console.print(latency_table.table(records, backends))
    if verdict.results.comparisons:
        console.print(latency_table.comparisons(verdict.results.comparisons))
    for name, value in verdict.figures.items():
        if not name.endswith("_s"):
            console.print(f"{name} {value:g}")
    for failure in verdict.failures:
        console.print(f"[red]failed[/red] {failure}", highlight=False, markup=True)


def expected(site: Site, name: str) -> dict[str, object]:
    """What a notebook may be told of its person: who they should be by the directory."""
    person = site.person(name)
    return {"expected": {"name": name, "uid": person.uid, "groups": sorted(person.groups)}}


def for_backend(book: Iterable[Notebook], backend: str, site: Meets) -> list[Notebook]:
    """The notebooks to run in a server on this backend.

    One that needs a single scheduler is run where that scheduler started the server; it
    would work elsewhere too, and the scenarios try that.
    """
    chosen = []
    for notebook in book:
        schedulers = set(notebook.needs) & set(BACKENDS)
        elsewhere = len(schedulers) == 1 and backend not in schedulers
        if not elsewhere and not notebooks.unmet(notebook, site):
            chosen.append(notebook)
    return chosen


def facility_versions(logins: Logins, bed: Bed | None) -> dict[str, str]:
    """What the facility runs: the hub's own word, and of a testbed its pins."""
    found = {}
    if who := logins.known or (logins.site.people("observer") and logins.observers()):
        found["jupyterhub"] = str(who[0].get_json("/hub/api/")["version"])
    return found | (settings.versions(bed.settings) if bed else {})


def orphans_left(bed: Bed | None, logins: Logins, site: Site, failures: list[str]) -> int | None:
    """How many orphans are left; None where nobody may look."""
    if bed is None or not site.people("observer"):
        return None
    try:
        orphans.expect_none(bed, logins.observers(), timeout_s=15)
    except ScenarioFailed as error:
        failures.append(str(error))
    return orphans.find(bed, logins.observers()).count


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TimeElapsedColumn(),
        console=console,
    )
