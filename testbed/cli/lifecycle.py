"""Commands that change the running testbed: up, restart, fault, down."""

import threading
import time
from typing import Annotated

import typer

from testbed.cli import look
from testbed.cli.output import Json, Project, answer, table
from testbed.errors import UsageError
from testbed.progress import say


def up(
    only: Annotated[
        list[str] | None,
        typer.Option(help="This service and what it depends on; may be given again."),
    ] = None,
    ep: Annotated[
        int | None, typer.Option(min=1, help="Execution points (default: as last time, 2).")
    ] = None,
    nodes: Annotated[
        int | None, typer.Option(min=1, help="Slurm compute nodes (default: as last time, 2).")
    ] = None,
    wait: Annotated[
        float, typer.Option(min=1, help="Longest wait for all to be healthy, in seconds.")
    ] = 300,
    port: Annotated[
        int | None, typer.Option(help="The front door's (default AF_PORT, as last time, 8443).")
    ] = None,
    far: Annotated[
        bool | None,
        typer.Option(
            "--far/--near",
            help="An origin of 20 MB/s, or as fast as it can (default: as last time).",
        ),
    ] = None,
    build: Annotated[
        bool, typer.Option("--build/--no-build", help="Bring the images up to date first.")
    ] = True,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """Boot what is not up, on a fresh machine too; ends with a table and the URLs."""
    from testbed.bed import Bed

    started = time.monotonic()
    bed = Bed.open(project, port=port, far=far)
    scales = {"condor-ep": ep, "slurm-node": nodes}
    changed = bed.up(
        only=only or (),
        scale={name: count for name, count in scales.items() if count is not None},
        wait_s=wait,
        build=build,
    )
    healths = bed.healths()
    # People, front door and hubs are what a site file tells of.
    told = ("ldap", "keycloak", "proxy", *(name for name in healths if name.startswith("hub-")))
    whole = all(name in healths and healths[name].ok for name in told)
    if whole and (changed or not bed.settings.site_file.is_file()):
        from testbed import own_site

        own_site.write(bed)
    took_s = round(time.monotonic() - started, 2)
    if not as_json:
        look.services_table([health for health in healths.values() if health.containers])
        say(f"up after {took_s} s" if changed else f"was up already ({took_s} s)")
        if whole:
            print(f"front door: {bed.front_door_url}/   who can log in: testbed users")
    answer(
        as_json,
        figures={"up_s": took_s},
        changed=changed,
        services={name: health.state for name, health in healths.items()},
        front_door=bed.front_door_url,
        site=str(bed.settings.site_file) if whole else None,
    )


def restart(
    service: Annotated[str, typer.Argument(help="A service; testbed status lists them.")],
    wait: Annotated[float, typer.Option(min=1, help="Longest wait, in seconds.")] = 120,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """Restart a service and wait until it is well."""
    from testbed.bed import Bed

    bed = Bed.open(project)
    started = time.monotonic()
    say(f"restarting {service}")
    health = bed.restart(service, timeout_s=wait)
    took_s = round(time.monotonic() - started, 2)
    if not as_json:
        print(f"{service}: {health.state} after {took_s} s")
    answer(as_json, figures={"restart_s": took_s}, service=service, state=health.state)


def fault(
    name: Annotated[str | None, typer.Argument(help="Without it: the list.")] = None,
    service: Annotated[str | None, typer.Argument(help="Where it strikes.")] = None,
    for_s: Annotated[
        float, typer.Option("--for", min=0, max=3600, help="How long it lasts, in seconds.")
    ] = 10,
    index: Annotated[
        int | None, typer.Option(help="Only this one of the service's containers, from 1.")
    ] = None,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """Make something go wrong for a while, and heal it; also when interrupted."""
    from testbed import faults
    from testbed.bed import Bed

    if name is None:
        known = {
            fault: (make.__doc__ or "").splitlines()[0]
            for fault, make in sorted(faults.FAULTS.items())
        }
        if not as_json:
            table(("fault", "what it does"), list(known.items()))
        return answer(as_json, faults=known)
    make = faults.named(name)
    if service is None:
        raise UsageError(f"{name} of which service?", cure=f"testbed fault {name} SERVICE")
    bed = Bed.open(project)
    started = time.monotonic()
    with make(bed, service, index=index):
        say(f"{name} {service}: for {for_s:g} s (Ctrl-C heals it sooner)")
        # The fault's length is the wish itself, not a stand-in for a condition.
        threading.Event().wait(for_s)
        say(f"healing {service}")
    took_s = round(time.monotonic() - started, 2)
    if not as_json:
        print(f"{service}: well again after {took_s} s")
    return answer(as_json, figures={"fault_s": took_s}, service=service, fault=name)


def down(
    volumes: Annotated[
        bool, typer.Option("--volumes", help="Forget homes, databases, keys and passwords too.")
    ] = False,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """End the testbed, in whatever state it is; images stay."""
    from testbed.bed import Bed

    started = time.monotonic()
    bed = Bed.open(project)
    say(f"taking {bed.project} down" + (" with its volumes" if volumes else ""))
    bed.down(volumes=volumes)
    took_s = round(time.monotonic() - started, 2)
    if not as_json:
        print(f"{bed.project} is down ({took_s} s)")
    answer(as_json, figures={"down_s": took_s}, volumes_removed=volumes)
