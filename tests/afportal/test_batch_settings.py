"""batchspawner's settings carry over, or are refused with a word on what to use."""

from __future__ import annotations

import pytest
from traitlets.config import Config

from afportal.batch_settings import (
    REFUSED_SETTINGS,
    BatchSpawnerBase,
    mebibytes,
    minutes,
    refuse_unsupported,
)


@pytest.mark.parametrize("section", ["PortalSpawner", "BatchSpawnerBase", "SlurmSpawner"])
@pytest.mark.parametrize("name", sorted(REFUSED_SETTINGS))
def test_templates_and_commands_are_refused(section: str, name: str) -> None:
    """A template or command of batchspawner's stops the hub with the cure."""
    config = Config()
    config[section][name] = "anything"
    with pytest.raises(ValueError, match=f"c.{section}.{name} is not supported: "):
        refuse_unsupported(config)


def test_a_backends_section_counts_for_that_backend() -> None:
    """c.SlurmSpawner speaks for Slurm, c.BatchSpawnerBase for all and before it."""
    config = Config()
    config.SlurmSpawner.req_partition = "interactive"
    config.SlurmSpawner.req_memory = "2G"
    config.BatchSpawnerBase.req_memory = "3G"
    settings = BatchSpawnerBase(config=config)
    assert settings.defaults_for("slurm") == {"partition": "interactive", "memory_mib": 3072}
    assert settings.defaults_for("htcondor") == {"memory_mib": 3072}


def test_gres_and_queue_have_their_modern_names() -> None:
    """req_gres and req_queue fill GPUs and partition."""
    config = Config()
    config.BatchSpawnerBase.req_gres = "gpu:k40:1"
    config.BatchSpawnerBase.req_queue = "long"
    found = BatchSpawnerBase(config=config).defaults_for("slurm")
    assert found == {"gpus": "k40:1", "partition": "long"}


@pytest.mark.parametrize(
    ("text", "mib"), [("", None), ("1500", 1500), ("1500M", 1500), ("2G", 2048), ("1.5g", 1536)]
)
def test_memory_is_read_as_batchspawner_has_it(text: str, mib: int | None) -> None:
    """A bare number is MiB; units are K, M, G, T."""
    assert mebibytes(text) == mib


@pytest.mark.parametrize(
    ("text", "expected"), [("", None), ("90", 90), ("8:00:00", 480), ("0:01:30", 2), ("30:00", 30)]
)
def test_runtime_is_read_as_batchspawner_has_it(text: str, expected: int | None) -> None:
    """hours:minutes:seconds, minutes:seconds or minutes; seconds round up."""
    assert minutes(text) == expected
