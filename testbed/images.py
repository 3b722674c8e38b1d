"""Build the images: all in one graph, from cache where nothing changed, not at all when sure."""

import fnmatch
import hashlib
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from testbed import base_image, engine
from testbed.bed import Bed
from testbed.errors import TestbedError
from testbed.settings import Settings, versions

# What lies among the sources but goes into no image.
NOT_IN_IMAGES = ("__pycache__", "*.pyc", "compose.yaml", "README.md", "*.egg-info", "build",
                 "node_modules",
                 ".ipynb_checkpoints", ".mypy_cache", ".ruff_cache")  # fmt: skip


def outdated(bed: Bed, wanted: frozenset[str]) -> bool:
    """Whether any of these images is missing or was made from other inputs than the present."""
    return not (stamped(bed.settings, input_hash(bed.settings)) >= wanted <= present(bed))


def ensure(bed: Bed, wanted: frozenset[str], say: engine.Say) -> None:
    """Build the images of these names; what did not change comes from the cache.

    Args:
        wanted: As the compose files name them, without a tag.

    Raises:
        TestbedError: An image has no build target, or the build failed.
    """
    inputs = input_hash(bed.settings)
    base = base_image.ensure(bed, say)
    bundle = ca_bundle(bed.settings)
    environ = bake_environ(bed.settings, base, bundle)
    targets = targets_of(bed.settings, wanted, environ)
    build(bed.settings, targets, environ, say)
    done = stamped(bed.settings, inputs) | wanted
    _stamp_file(bed.settings).write_text(
        json.dumps({"inputs": inputs, "images": sorted(done)}, indent=1) + "\n"
    )


def input_hash(settings: Settings) -> str:
    """One hash over the names, modes and contents of all that images are made from."""
    digest = hashlib.sha256()
    for file in input_files(settings.home):
        name = file.relative_to(settings.home)
        digest.update(f"{name}\0{file.stat().st_mode & 0o111}\0".encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def input_files(home: Path) -> Iterator[Path]:
    """Files under compose/ and src/ that may be in an image, in a fixed order."""

    def walk(folder: Path) -> Iterator[Path]:
        for path in sorted(folder.iterdir()):
            if any(fnmatch.fnmatch(path.name, pattern) for pattern in NOT_IN_IMAGES):
                continue
            if path.is_dir() and not path.is_symlink():
                yield from walk(path)
            elif path.is_file():
                yield path

    for part in ("compose", "src"):
        if (home / part).is_dir():
            yield from walk(home / part)


def stamped(settings: Settings, inputs: str) -> set[str]:
    """Images that were built from exactly these inputs."""
    try:
        stamp = json.loads(_stamp_file(settings).read_text())
    except (OSError, ValueError):
        return set()
    return set(stamp["images"]) if stamp.get("inputs") == inputs else set()


def present(bed: Bed) -> set[str]:
    """Names of the images that the engine has, as compose files write them."""
    tags = (tag for image in bed.client.api.images() for tag in image.get("RepoTags") or ())
    return {tag.removesuffix(":latest") for tag in tags}


def ca_bundle(settings: Settings) -> Path:
    """A copy of this machine's CA certificates inside the folder.

    Newer buildx asks before a build may read a file elsewhere; a file in the folder it
    reads unasked.
    """
    import certifi

    copy = settings.shared_state_dir / "ca-certificates.crt"
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(settings.ca_bundle or Path(certifi.where()), copy)
    return copy


def bake_environ(settings: Settings, base: str, bundle: Path) -> dict[str, str]:
    return {
        **settings.environ,
        **versions(settings),
        "PROJECT": settings.images,
        "BASE_IMAGE": base,
        "CA_BUNDLE": str(bundle),
        # The engine's own builder: another one would not see the base image.
        "BUILDX_BUILDER": engine.current_context(settings),
        "BUILDX_NO_DEFAULT_ATTESTATIONS": "1",
    }


def targets_of(settings: Settings, wanted: frozenset[str], environ: dict[str, str]) -> list[str]:
    """The targets of the bake file that make these images.

    Raises:
        TestbedError: An image that no target makes, or a bake file that cannot be read.
    """
    argv = [
        "docker",
        "buildx",
        "bake",
        "-f",
        str(settings.bake_file),
        "--print",
        *all_targets(settings),
    ]
    done = subprocess.run(
        argv, env=environ, cwd=settings.home, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise TestbedError(
            f"{settings.bake_file} cannot be read",
            seen=done.stderr.strip()[-2000:],
            cure=" ".join(argv),
        )
    makers = {
        tag.removesuffix(":latest"): target
        for target, body in json.loads(done.stdout)["target"].items()
        for tag in body.get("tags") or ()
    }
    if missing := sorted(wanted - set(makers)):
        raise TestbedError(
            f"no build target makes {', '.join(missing)}",
            cure=f"add a target with that tag to {settings.bake_file}",
        )
    return sorted(makers[image] for image in wanted)


def all_targets(settings: Settings) -> list[str]:
    """Every target named in the bake file, in a group or not."""
    return re.findall(r'(?m)^target "([^"]+)"', settings.bake_file.read_text())


def build(settings: Settings, targets: list[str], environ: dict[str, str], say: engine.Say) -> None:
    """Build targets, each image announced as it is done; everything else goes to the log.

    Raises:
        TestbedError: With the failing step's last lines and where the log is.
    """
    log = settings.shared_state_dir / "build.log"
    argv = ["docker", "buildx", "bake", "-f", str(settings.bake_file), "--load",
            "--progress", "plain", *targets]  # fmt: skip
    say(f"building {len(targets)} images (log: {log})")
    started = time.monotonic()
    with log.open("w") as output:
        process = subprocess.Popen(
            argv,
            env=environ,
            cwd=settings.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        progress = BuildProgress(settings.images)
        for line in process.stdout or ():
            output.write(line)
            if news := progress.read(line):
                say(f"{news} ({time.monotonic() - started:.0f} s)")
    if process.wait() != 0:
        raise TestbedError(
            f"the images could not be built (log: {log})",
            seen=failure_of(log.read_text(errors="replace")),
            cure="mend what it names, then testbed up: what was built is kept in the cache",
        )
    say(f"images ready after {time.monotonic() - started:.0f} s")


class BuildProgress:
    """What is worth telling of a plain build log: steps that really run, images done."""

    def __init__(self, images: str = "af-testbed") -> None:
        self._image = re.compile(
            rf"naming to (?:\S+?/)?({re.escape(images)}/\S+?)(?::latest)?(?:@|\s)"
        )
        self._steps: dict[str, str] = {}  # not told yet, by buildkit's number
        self._told: set[str] = set()

    def read(self, line: str) -> str | None:
        """The news in a line, or None; a step is news at its first output, so no cached one is."""
        number, _, rest = line.partition(" ")
        if image := self._image.match(rest):
            news = f"built {image[1]}"
        elif step := re.match(r"\[(\S+)[^\]]*\d+/\d+\] RUN (.*)", rest):
            command = re.sub(r"--mount=\S+\s+", "", step[2])
            self._steps[number] = f"{step[1]}: {' '.join(command.split())[:70]} …"
            return None
        elif number in self._steps and re.match(r"\d+\.\d+ ", rest):
            news = self._steps.pop(number)
        else:
            return None
        if news in self._told:
            return None
        self._told.add(news)
        return news


def failure_of(log: str) -> str:
    """The part of a build log that says what failed: the summary that buildx ends with."""
    lines = log.splitlines()
    begin = next((i for i, line in enumerate(lines) if line.startswith("------")), None)
    summary = lines[begin:] if begin is not None else lines
    return "\n".join(summary[-30:])


def _stamp_file(settings: Settings) -> Path:
    return settings.shared_state_dir / "images.json"
