"""Bring a testbed up: check the machine, build what changed, start in order, explain a failure."""

import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from testbed import doctor, engine, evidence, health, hubs, images, settings
from testbed.bed import Bed
from testbed.errors import TestbedError, UsageError
from testbed.progress import say

# A service that fell this often as it started will not stand by itself.
RESTARTS_THAT_PROVE_IT = 4
WATCH_EVERY_S = 0.5


def up(
    bed: Bed, *, only: tuple[str, ...], scale: Mapping[str, int], wait_s: float, build: bool
) -> bool:
    """See `Bed.up`."""
    for change in hubs.render(bed.settings.home):
        say(f"{change.path} made anew from {hubs.HUBS_FILE}: {change.words}")
    engine.ensure(bed.settings, say)
    compose = bed.compose
    compose.require(*only, *scale)
    for service, count in scale.items():
        if count < 1:
            raise UsageError(f"{count} containers of {service} asked; at least 1 is needed")
    services = compose.with_dependencies(only) if only else compose.services
    remembered = settings.remembered(bed.settings).get("scale", {})
    wanted = {
        name: int(scale.get(name, remembered.get(name, compose.scale(name)))) for name in services
    }
    names = compose.images(services)
    fresh = not build or not images.outdated(bed, names)
    amiss = what_is_amiss(bed, wanted)
    if fresh and not amiss:
        return False
    say(amiss or "images are out of date")
    doctor.require_room(bed, building=not fresh, whole=not only)
    settings.remember(
        bed.settings,
        port=bed.settings.port,
        scale=remembered | dict(scale),
        far=bed.settings.far,
    )
    if not fresh:
        images.ensure(bed, names, say)
    start(bed, wanted, wait_s)
    return True


def what_is_amiss(bed: Bed, wanted: Mapping[str, int]) -> str | None:
    """The first service that is not well or not made from the present configuration and image.

    Args:
        wanted: Number of containers by service.

    Returns:
        The service and what is the matter with it; None when all is as it should be.
    """
    hashes = bed.compose.config_hashes()
    image_ids = {
        tag.removesuffix(":latest"): image["Id"]
        for image in bed.client.api.images()
        for tag in image.get("RepoTags") or ()
    }
    found = bed.summaries()
    if not found:
        return "nothing runs"
    for name, count in wanted.items():
        entries = found.get(name, [])
        image = bed.compose.model["services"][name]["image"].removesuffix(":latest")
        now = health.of_service(name, entries, one_shot=name in bed.compose.one_shots)
        if len(entries) != count:
            return f"{name}: {len(entries)} of {count} containers"
        for entry in entries:
            if entry["Labels"].get("com.docker.compose.config-hash") != hashes.get(name):
                return f"{name}: its configuration changed"
            if entry["ImageID"] != image_ids.get(image):
                return f"{name}: its image changed"
        if not now.ok and not (now.state in health.UNPROVEN and bed.probe(name)):
            return f"{name}: {now.state}"
    return None


def start(bed: Bed, wanted: Mapping[str, int], wait_s: float) -> None:
    """Start services in order of dependency and wait until all are well.

    Raises:
        TestbedError: Which service failed and why, or that the engine died.
    """
    _mend_what_was_left(bed)
    # Always said: without it compose makes again what an earlier `up` scaled.
    scales = [part for name, count in wanted.items() for part in ("--scale", f"{name}={count}")]
    argv = bed.compose.argv(
        "up", "--detach", "--wait", "--wait-timeout", f"{wait_s:.0f}", "--no-build",
        "--pull", "never", "--remove-orphans", *scales, *wanted,
    )  # fmt: skip
    log = bed.settings.state_dir / "boot.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    say(f"starting {len(wanted)} services")
    started = time.monotonic()
    with log.open("w") as output:
        process = subprocess.Popen(
            argv,
            env=bed.compose.environ(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            looping = _watch(bed, process, tuple(wanted))
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    if process.returncode == 0 and not looping:
        say(f"all healthy after {time.monotonic() - started:.1f} s")
        return
    raise _diagnosis(bed, tuple(wanted), looping, log)


def _mend_what_was_left(bed: Bed) -> None:
    """Wake what a fault that was cut off left paused; begin anew what an earlier boot left ill.

    compose would give up at once on a container that is unhealthy already.
    """
    for name, entries in bed.summaries().items():
        for entry in entries:
            if entry["State"] == "paused":
                bed.client.api.unpause(entry["Id"])
            if health.of_container(entry) == "unhealthy" and not bed.probe(name):
                say(f"{name}: unhealthy; restarting it")
                bed.client.api.restart(entry["Id"], timeout=5)


def _watch(
    bed: Bed, process: "subprocess.Popen[bytes]", services: tuple[str, ...]
) -> frozenset[str]:
    """Announce services as they become well; returns early with those that fall again and again."""
    told: set[str] = set()
    started = time.monotonic()
    ended = threading.Event()

    def follow() -> None:
        process.wait()
        ended.set()

    threading.Thread(target=follow, daemon=True).start()
    done = False
    while not done:
        # The poll of a running command; compose's own --wait-timeout bounds it.
        done = ended.wait(WATCH_EVERY_S)
        try:
            found = bed.summaries()
            looping = _looping(bed, found, services)
        except Exception as error:
            if engine.answers(bed.settings):
                continue  # a container went between the list and the look
            raise _engine_died() from error
        for name in services:
            one_shot = name in bed.compose.one_shots
            now = health.of_service(name, found.get(name, []), one_shot=one_shot)
            if now.ok and name not in told:
                told.add(name)
                say(f"{name}: {now.state} ({time.monotonic() - started:.1f} s)")
        if looping:
            return looping
    return frozenset()


def _looping(
    bed: Bed, found: Mapping[str, list[Mapping[str, Any]]], services: tuple[str, ...]
) -> frozenset[str]:
    """Services that the engine has started again and again."""
    suspects = [
        (name, entry["Id"])
        for name in services
        for entry in found.get(name, [])
        if health.of_container(entry) in ("restarting", "starting")
    ]
    return frozenset(
        name
        for name, identity in suspects
        if bed.client.api.inspect_container(identity)["RestartCount"] >= RESTARTS_THAT_PROVE_IT
    )


def _diagnosis(
    bed: Bed, services: tuple[str, ...], looping: frozenset[str], log: Path
) -> TestbedError:
    """Which services failed first, why, and where to read on."""
    if not engine.answers(bed.settings):
        return _engine_died()
    healths = {name: value for name, value in bed.healths().items() if name in services}
    model = bed.compose.model["services"]

    def waits(name: str) -> bool:
        """Whether it only waits for another that is not well."""
        needed = model[name].get("depends_on") or {}
        return any(n in healths and not healths[n].ok for n in needed)

    failed = [
        name for name, now in healths.items() if name in looping or (not now.ok and not waits(name))
    ]
    waiting = [name for name, now in healths.items() if not now.ok and name not in failed]
    said = [line for line in engine.last_lines(log, 40).splitlines() if _is_complaint(line)]
    parts = [_why(bed, name, healths[name], looping=name in looping) for name in failed]
    if not parts or said:
        parts.append("compose: " + (said[-1] if said else engine.last_lines(log, 3)))
    if waiting:
        parts.append("waiting for those: " + ", ".join(waiting))
    folder = bed.report_dir
    evidence.collect(bed, folder)
    first = failed[0] if failed else ""
    return TestbedError(
        f"{', '.join(failed) or 'compose'} did not come up",
        seen="\n".join(parts) + f"\nall logs: {folder}",
        cure=(f"{bed.command('logs', first)}; " if first else "")
        + f"{bed.command('up')} goes on from here",
    )


def _why(bed: Bed, service: str, now: health.Health, *, looping: bool) -> str:
    """State, last probe and last log lines of a service that failed."""
    state = "falls again and again" if looping else now.state
    lines = [f"{service}: {state}" + (f" ({now.detail})" if now.detail else "")]
    for container in bed.containers(service):
        probes = (container.attrs["State"].get("Health") or {}).get("Log") or []
        if error := container.attrs["State"].get("Error"):
            lines.append(f"  engine: {error}")
        if probes and probes[-1]["ExitCode"] != 0:
            output = " ".join(probes[-1]["Output"].split())[-300:]
            lines.append(f"  last probe ended with {probes[-1]['ExitCode']}: {output or 'no word'}")
            break
    lines += ["  | " + line for line in bed.logs(service, tail=12).splitlines()[-12:]]
    return "\n".join(lines)


def _is_complaint(line: str) -> bool:
    return any(word in line.lower() for word in ("error", "dependency failed", "not healthy after",
                                                 "didn't complete", "is unhealthy"))  # fmt: skip


def _engine_died() -> TestbedError:
    ours = engine.DAEMON_LOG
    return TestbedError(
        "the container engine died during the boot",
        seen=engine.last_lines(ours) if ours.is_file() else "",
        cure="testbed up (where it may, it starts the engine again and goes on); testbed doctor",
    )
