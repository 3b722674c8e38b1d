"""A build runs when, and only when, something that goes into an image changed."""

from dataclasses import replace
from pathlib import Path

import pytest

from testbed import images, settings
from testbed.settings import Settings


@pytest.fixture
def tree(tmp_path: Path) -> Settings:
    for name in ("compose/hub/Dockerfile", "compose/hub/compose.yaml", "src/afportal/a.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return replace(settings.load(environ={}), home=tmp_path, work=tmp_path)


def test_a_changed_source_changes_the_hash(tree: Settings) -> None:
    before = images.input_hash(tree)
    (tree.home / "src/afportal/a.py").write_text("other")
    assert images.input_hash(tree) != before


def test_a_changed_mode_or_name_changes_the_hash(tree: Settings) -> None:
    before = images.input_hash(tree)
    file = tree.home / "compose/hub/Dockerfile"
    file.chmod(0o755)
    changed = images.input_hash(tree)
    assert changed != before
    file.rename(file.with_name("Dockerfile2"))
    assert images.input_hash(tree) != changed


def test_what_is_in_no_image_does_not_count(tree: Settings) -> None:
    before = images.input_hash(tree)
    (tree.home / "compose/hub/compose.yaml").write_text("other")
    (tree.home / "compose/hub/README.md").write_text("words")
    cache = tree.home / "src/afportal/__pycache__"
    cache.mkdir()
    (cache / "a.cpython-311.pyc").write_bytes(b"x")
    assert images.input_hash(tree) == before


def test_a_stamp_counts_for_its_inputs_only(tree: Settings) -> None:
    tree.shared_state_dir.mkdir()
    (tree.shared_state_dir / "images.json").write_text(
        '{"inputs": "abc", "images": ["af-testbed/hub"]}'
    )
    assert images.stamped(tree, "abc") == {"af-testbed/hub"}
    assert images.stamped(tree, "other") == set()


def test_a_broken_stamp_means_build(tree: Settings) -> None:
    tree.shared_state_dir.mkdir()
    (tree.shared_state_dir / "images.json").write_text("{half")
    assert images.stamped(tree, "abc") == set()


def test_of_a_failed_build_the_failing_step_is_shown() -> None:
    log = "#1 [internal] load\n" * 50 + "------\n > [hub 2/3] RUN false:\n------\nERROR: failed\n"
    assert images.failure_of(log).splitlines()[1] == " > [hub 2/3] RUN false:"


def test_only_steps_that_run_and_images_are_told() -> None:
    """Cached steps are silent; an image that two targets share is told once."""
    progress = images.BuildProgress()
    log = """\
#7 [hub 2/4] RUN --mount=type=cache,target=/x apt-get update  && apt-get install -y slapd
#7 CACHED
#8 [hub 3/4] RUN make-hub
#8 0.412 Reading package lists...
#8 0.500 more
#9 naming to docker.io/af-testbed/hub:latest done
#9 naming to docker.io/af-testbed/hub done
"""
    news = [told for line in log.splitlines(keepends=True) if (told := progress.read(line))]
    assert news == ["hub: make-hub …", "built af-testbed/hub"]
