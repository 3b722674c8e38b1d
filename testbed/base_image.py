"""The image that all others stand on: the official Debian one, or one made from packages."""

import os
import shutil
import subprocess
import time

from testbed import apt, engine
from testbed.bed import Bed
from testbed.errors import TestbedError
from testbed.settings import versions

REGISTRY_TIMEOUT_S = 5.0


def name(suite: str) -> str:
    return f"af-testbed/debian:{suite}"


def ensure(bed: Bed, say: engine.Say) -> str:
    """The base image's name, made or pulled if it is not there.

    Raises:
        TestbedError: No image registry answers and this machine cannot make one.
    """
    suite = versions(bed.settings)["DEBIAN_SUITE"]
    image = name(suite)
    if has_image(bed, image):
        return image
    official = f"debian:{suite}"
    started = time.monotonic()
    if has_image(bed, official):
        say(f"base image: {official}, which is here already")
        bed.client.images.get(official).tag(image)
    elif registry_answers(bed, official):
        say(f"base image: pulling {official}")
        bed.client.images.pull("debian", tag=suite).tag(image)
    else:
        say(f"base image: no image registry answers; making {suite} from packages (mmdebstrap)")
        make(image, suite, say)
    say(f"base image: ready after {time.monotonic() - started:.0f} s")
    return image


def has_image(bed: Bed, image: str) -> bool:
    return bool(bed.client.api.images(name=image))


def registry_answers(bed: Bed, image: str) -> bool:
    """Whether the engine can ask for that image within seconds, through its own proxies."""
    import docker
    import docker.errors
    import requests.exceptions

    asking = docker.DockerClient(
        base_url=engine.host(bed.settings), timeout=int(REGISTRY_TIMEOUT_S)
    )
    try:
        asking.images.get_registry_data(image)
    except (docker.errors.DockerException, requests.exceptions.RequestException):
        return False
    finally:
        asking.close()
    return True


def make(image: str, suite: str, say: engine.Say) -> None:
    """Make the base image from this machine's own Debian mirror.

    Raises:
        TestbedError: Not Debian, or mmdebstrap is missing and may not be installed.
    """
    by_hand = f"docker pull debian:{suite} where a registry answers, and docker save | docker load"
    if not apt.is_debian():
        raise TestbedError(
            "no image registry answers, and a base image can be made on Debian only", cure=by_hand
        )
    if not shutil.which("mmdebstrap"):
        if os.geteuid() != 0:
            raise TestbedError(
                "no image registry answers, and mmdebstrap is missing",
                cure=f"sudo apt-get install mmdebstrap, or {by_hand}",
            )
        apt.update(say)
        apt.install(["mmdebstrap"], say)
    codename = apt.os_release().get("VERSION_CODENAME", suite)
    mirror = apt.archive(apt.sources(), codename).uris[0]
    bootstrap = subprocess.Popen(
        ["mmdebstrap", "--quiet", "--variant=minbase", "--include=ca-certificates",
         suite, "-", mirror],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    imported = subprocess.run(
        ["docker", "import", "-", image], stdin=bootstrap.stdout, capture_output=True, check=False
    )
    _, errors = bootstrap.communicate()
    if bootstrap.returncode != 0 or imported.returncode != 0:
        # A broken stream may have been imported as an image: take it away again.
        subprocess.run(["docker", "image", "rm", image], capture_output=True, check=False)
        tail = (errors + imported.stderr).decode(errors="replace").splitlines()[-12:]
        raise TestbedError("the base image could not be made", seen="\n".join(tail), cure=by_hand)
