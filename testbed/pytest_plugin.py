"""pytest for scenarios: fixtures in three kinds, needs, evidence, and the look for orphans.

Loaded by `-p testbed.pytest_plugin`. Touches only tests that use its fixtures or marker.

Options: `--site FILE` judges that facility instead of one's own testbed; `--project NAME`
chooses the testbed.

What went wrong is counted apart: an assertion is the facility's failure (exit code 1), a
`TestbedError` the harness's or the machine's (exit code 3).
"""

import shlex
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from testbed import evidence, orphans, own_site, settings
from testbed.bed import Bed
from testbed.errors import ExplainedError, ScenarioFailed, TestbedError, UsageError
from testbed.hub_client import HubClient, HubRefused, HubUnreachable, Spawn
from testbed.logins import Logins, Visitor
from testbed.settings import Settings
from testbed.site import NEEDS, Site, load_site
from testbed.waiting import wait_until

_STATE = pytest.StashKey["_State"]()
_BROKE = 3


class _State:
    """What one session of pytest holds: opened when first asked for."""

    def __init__(self, config: pytest.Config) -> None:
        self.site_file: Path | None = config.getoption("--site")
        self.project: str | None = config.getoption("--project")
        self.broke: list[str] = []
        self.evidence: list[Path] = []
        self._bed: Bed | None = None
        self._site: Site | None = None
        self._logins: Logins | None = None

    @property
    def settings(self) -> Settings:
        return settings.load(self.project)

    @property
    def own(self) -> bool:
        """Whether a testbed of one's own is judged."""
        return self.site_file is None

    def bed(self) -> Bed:
        if self._bed is None:
            bed = Bed.open(self.project)
            if not all(health.ok for health in bed.healths().values()):
                bed.up()
            own_site.write(bed)
            with Logins(load_site(bed.settings.site_file), self.settings.environ) as logins:
                # Containers can be well while the portal's source has just changed in them.
                for observer in logins.observers():
                    wait_until(
                        lambda observer=observer: observer.get_json("/hub/api/"),  # type: ignore[misc]
                        60,
                        what=f"hub {observer.instance} behind the API door",
                        hint=observer.log_command,
                        retry_on=(HubRefused, HubUnreachable),
                    )
            self._bed = bed
        return self._bed

    def site(self) -> Site:
        if self._site is None:
            self._site = load_site(self.site_file or self.bed().settings.site_file)
        return self._site

    def logins(self) -> Logins:
        if self._logins is None:
            self._logins = Logins(self.site(), self.settings.environ)
        return self._logins

    @property
    def running_bed(self) -> Bed | None:
        """The testbed, when some test has stood it up."""
        return self._bed

    @property
    def used(self) -> bool:
        return self._logins is not None

    def close(self) -> None:
        if self._logins:
            self._logins.close()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("af-testbed")
    group.addoption("--site", type=Path, help="site file of the facility to judge")
    group.addoption("--project", help="compose project of the testbed to judge")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(*names): what a scenario needs of a site")
    config.addinivalue_line(
        "markers", "soak: minutes of waiting, or many people; not a part of `make test`"
    )
    config.stash[_STATE] = _State(config)


def pytest_unconfigure(config: pytest.Config) -> None:
    if state := config.stash.get(_STATE, None):
        state.close()


# Configuration: data, nothing is started


@pytest.fixture(scope="session")
def site(request: pytest.FixtureRequest) -> Site:
    """The facility under judgement: `--site`, or one's own testbed (which is booted)."""
    return request.config.stash[_STATE].site()


# Stand-up: once a session


@pytest.fixture(scope="session")
def bed(request: pytest.FixtureRequest) -> Bed:
    """One's own testbed, up and healthy; for scenarios that need `faults`."""
    state = request.config.stash[_STATE]
    if not state.own:
        pytest.skip("a facility of somebody else: nothing may be broken there (--site)")
    return state.bed()


@pytest.fixture(scope="session")
def logins(request: pytest.FixtureRequest) -> Logins:
    """Everybody of the site, logged in when first asked for."""
    return request.config.stash[_STATE].logins()


@pytest.fixture(scope="session")
def people(site: Site, logins: Logins) -> tuple[Visitor, Visitor]:
    """Two different people; each logs in at a hub when first asked for a client there."""
    first, second = site.people("person")[:2]
    return logins.visitor(first.name), logins.visitor(second.name)


@pytest.fixture(scope="session")
def alice(people: tuple[Visitor, Visitor]) -> Visitor:
    """The first person of the site."""
    return people[0]


@pytest.fixture(scope="session")
def bob(people: tuple[Visitor, Visitor]) -> Visitor:
    """The second person of the site."""
    return people[1]


# Action: one deed


@pytest.fixture
def spawn(site: Site) -> Iterator[Callable[..., Spawn]]:
    """Spawn for somebody with the site's options for a backend; stopped when the test ends.

    `spawn(client, backend, server="", timeout_s=180, **options)`.
    """
    begun: list[tuple[HubClient, str]] = []

    def deed(
        client: HubClient, backend: str, server: str = "", timeout_s: float = 180.0, **options: Any
    ) -> Spawn:
        begun.append((client, server))
        wanted = {"backend": backend, **site.backend(backend).options, **options}
        return client.spawn(wanted, server, timeout_s=timeout_s)

    yield deed
    for client, server in begun:
        client.stop(server, timeout_s=120)


@pytest.fixture
def stopped_after() -> Iterator[Callable[..., HubClient]]:
    """Note a client (and server) whose server shall be stopped when the test ends."""
    noted: list[tuple[HubClient, str]] = []

    def note(client: HubClient, server: str = "") -> HubClient:
        noted.append((client, server))
        return client

    yield note
    for client, server in noted:
        client.stop(server, timeout_s=120)


@pytest.fixture
def run_folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where a test keeps what it made: in the run's report, or with a foreign site in tmp."""
    state = request.config.stash[_STATE]
    if not state.own:
        return tmp_path
    folder = state.bed().report_dir / _folder_name(request.node)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


# Needs


def pytest_runtest_setup(item: pytest.Item) -> None:
    needs = [str(name) for mark in item.iter_markers("needs") for name in mark.args]
    if not needs:
        return
    state = item.config.stash[_STATE]
    known = {*NEEDS, "htcondor", "slurm", "local"}
    if unknown := [need for need in needs if need not in known]:
        raise UsageError(
            f"{item.nodeid} needs {', '.join(unknown)}", seen=f"known: {', '.join(sorted(known))}"
        )
    site = state.site()
    missing = [need for need in needs if not site.meets(need)]
    if "faults" in needs and not state.own:
        missing.append("faults")
    if not missing:
        return
    cannot_judge(item.config, f"site {site.name} has no {', no '.join(missing)}")


def cannot_judge(config: pytest.Config, reason: str) -> NoReturn:
    """Skip what a site has not got: a foreign one is what it is.

    Raises:
        TestbedError: It is one's own testbed, in CI: that must have everything.
    """
    state = config.stash[_STATE]
    if state.own and state.settings.ci:
        raise TestbedError(reason, cure="testbed up")
    pytest.skip(reason)


# Every scenario ends with a look for orphans


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    yield
    state = item.config.stash[_STATE]
    if _is_scenario(item) and state.running_bed and state.used:
        orphans.expect_none(state.running_bed, state.logins().observers())


def _is_scenario(item: pytest.Item) -> bool:
    return bool({"bed", "site", "logins"} & set(getattr(item, "fixturenames", ())))


# Evidence, and what broke counted apart


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if not report.failed or not _is_scenario(item):
        return report
    state = item.config.stash[_STATE]
    error = call.excinfo.value if call.excinfo else None
    if isinstance(error, ExplainedError) and not isinstance(error, ScenarioFailed):
        state.broke.append(item.nodeid)
        report.sections.append(("the testbed broke", "nothing was judged by this test"))
    report.sections.append(("run it again", _command(item, state)))
    if bed := state.running_bed:
        folder = bed.report_dir / _folder_name(item) / report.when
        evidence.collect(bed, folder)
        state.evidence.append(folder)
        report.sections.append(("evidence", str(folder)))
    return report


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    state = session.config.stash[_STATE]
    if state.running_bed:
        evidence.collect(state.running_bed, state.running_bed.report_dir)
    # A judgement stands only if some test failed by itself.
    if exitstatus == pytest.ExitCode.TESTS_FAILED and session.testsfailed == len(state.broke):
        session.exitstatus = _BROKE


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    state = config.stash[_STATE]
    for nodeid in state.broke:
        terminalreporter.write_line(f"BROKE {nodeid} - the testbed, not what it judges")
    if state.running_bed:
        terminalreporter.write_line(f"evidence in {state.running_bed.report_dir}")


def _folder_name(item: pytest.Item) -> str:
    name = item.nodeid.rsplit("/", 1)[-1].replace("::", "-")
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name).strip("-")


def _command(item: pytest.Item, state: _State) -> str:
    argv = ["pytest", "-p", "testbed.pytest_plugin", item.nodeid]
    if state.site_file:
        argv += ["--site", str(state.site_file)]
    if state.project:
        argv += ["--project", state.project]
    return shlex.join(argv)
