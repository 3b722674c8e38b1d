"""Commands that look: status, doctor, logs, exec."""

import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from testbed.cli.output import Json, Project, answer, table
from testbed.errors import TestbedError, UsageError
from testbed.progress import say

if TYPE_CHECKING:
    from testbed.bed import Bed
    from testbed.health import Health
    from testbed.prometheus import Alert

TAIL_OF_EACH = 20


def services_table(
    healths: Sequence["Health"], memory_mib: Mapping[str, float] | None = None
) -> None:
    headings = ["service", "state", "since", "image", "detail"]
    rows = []
    for health in healths:
        state = health.state + (f" ({health.containers})" if health.containers > 1 else "")
        rows.append([health.service, state, health.since, health.image, health.detail])
    if memory_mib is not None:
        headings.insert(3, "MiB")
        for row in rows:
            used = memory_mib.get(row[0])
            row.insert(3, f"{used:.0f}" if used is not None else "")
    table(headings, rows, bad=[n for n, health in enumerate(healths) if not health.ok])


def status(project: Project = None, as_json: Json = False) -> None:
    """Each service: state, since when, memory, image; alerts. Ends with 1 if any is not well."""
    from testbed.bed import Bed

    bed = Bed.open(project)
    healths, memory = bed.healths(), bed.memory_mib()
    alerts = _firing(bed, healths)
    total = round(sum(memory.values()), 1)
    if not as_json:
        services_table(list(healths.values()), memory)
        for alert in alerts:
            print(f"{alert.name}: {alert.summary}\n  try: {alert.cure}")
        print(f"memory: {total:.0f} MiB   front door: {bed.front_door_url}/")
    answer(
        as_json,
        ok=all(health.ok for health in healths.values()),
        figures={"memory_mib": total, "alerts_firing": len(alerts)},
        services={
            name: dataclasses.asdict(health)
            | {"ok": health.ok, "memory_mib": round(memory.get(name, 0.0), 1)}
            for name, health in healths.items()
        },
        alerts=[dataclasses.asdict(alert) for alert in alerts],
        front_door=bed.front_door_url,
    )


def _firing(bed: "Bed", healths: Mapping[str, "Health"]) -> list["Alert"]:
    """The alerts that fire; none while Prometheus is not well, which the services' table tells."""
    from testbed import prometheus

    if not healths[prometheus.SERVICE].ok:
        return []
    try:
        return [alert for alert in prometheus.Prometheus(bed).alerts() if alert.firing]
    except TestbedError as error:
        say(f"alerts are not known: {error}")
        return []


def doctor(project: Project = None, as_json: Json = False) -> None:
    """Check this machine; each problem with its cure. Ends with 1 if there is one."""
    from testbed import doctor as examiner
    from testbed.bed import Bed

    checks = examiner.examine(Bed.open(project))
    if not as_json:
        table(
            ("check", "", "seen"),
            [(check.name, "ok" if check.ok else "BAD", check.seen) for check in checks],
            bad=[number for number, check in enumerate(checks) if not check.ok],
        )
        for check in checks:
            if not check.ok:
                print(f"{check.name}: {check.seen}\n  try: {check.cure}")
    answer(
        as_json,
        ok=all(check.ok for check in checks),
        checks=[dataclasses.asdict(check) for check in checks],
    )


def logs(
    service: Annotated[
        str | None, typer.Argument(help=f"Without it: the last {TAIL_OF_EACH} lines of each.")
    ] = None,
    tail: Annotated[int | None, typer.Option(min=1, help="Only so many last lines.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as they come.")] = False,
    save: Annotated[
        bool, typer.Option("--save", help="Write all logs and the queues' state to reports/latest.")
    ] = False,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """What services wrote."""
    from testbed.bed import Bed

    bed = Bed.open(project)
    if save:
        from testbed import evidence

        say("collecting logs and queues")
        evidence.collect(bed, bed.report_dir)
        if not as_json:
            print(bed.report_dir)
        return answer(as_json, folder=str(bed.report_dir))
    if follow:
        _follow(bed, service, tail)
    names = [service] if service else [name for name in bed.services() if bed.containers(name)]
    texts = {name: bed.logs(name, tail or (None if service else TAIL_OF_EACH)) for name in names}
    if not as_json:
        for name, text in texts.items():
            if not service:
                print(f"==== {name}")
            print(text.rstrip("\n"))
    return answer(as_json, logs=texts)


def exec(  # noqa: A001 - the command's name; nothing here calls the builtin
    service: Annotated[str, typer.Argument(help="A service; testbed status lists them.")],
    command: Annotated[list[str], typer.Argument(help="The command and its arguments.")],
    user: Annotated[str | None, typer.Option(help="As whom (default: the image's own).")] = None,
    index: Annotated[int, typer.Option(min=1, help="In which of its containers.")] = 1,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """Run a command in a service's container; ends with the command's own exit code.

    Options stand before SERVICE. With --json the output is in the object.
    """
    from testbed.bed import Bed

    bed = Bed.open(project)
    if as_json:
        done = bed.exec(service, command, user=user, index=index, timeout_s=600)
        return answer(True, ok=done.ok, **dataclasses.asdict(done))
    container = bed.container(service, index)
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    argv = ["docker", "exec", "--interactive", *(["--tty"] if terminal else []),
            *(["--user", user] if user else []), str(container.id), *command]  # fmt: skip
    return _become(argv)


def _follow(bed: Any, service: str | None, tail: int | None) -> None:
    if service:
        bed.compose.require(service)
    argv = bed.compose.argv("logs", "--follow", "--tail", str(tail or TAIL_OF_EACH))
    _become([*argv, *([service] if service else [])], bed.compose.environ())


def _become(argv: list[str], environ: Mapping[str, str] | None = None) -> None:
    """Go on as that command: its input, output, signals and exit code are ours."""
    sys.stdout.flush()
    try:
        if environ is None:
            os.execvp(argv[0], argv)
        os.execvpe(argv[0], argv, environ)
    except FileNotFoundError as error:
        raise UsageError(f"no {argv[0]} command on PATH", cure="testbed doctor") from error
