"""What a person asks is checked against what the facility offers that person."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from afportal import form
from afportal.catalogue import Catalogue, load
from afportal.offers import Grant, Refusal, grant, read_options

CATALOGUE = Path(__file__).parents[2] / "compose" / "hub" / "config" / "catalogue.yaml"


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load(CATALOGUE)


def ask(catalogue: Catalogue, groups: frozenset[str] = frozenset(), **raw: Any) -> Grant:
    return grant(
        read_options(raw), catalogue, backends=("htcondor", "slurm", "local"), groups=groups
    )


def test_nothing_asked_gives_the_first_class(catalogue: Catalogue) -> None:
    """An empty request gets the default backend's first class, whole."""
    granted = ask(catalogue)
    assert (granted.backend, granted.class_.name) == ("htcondor", "reserved")
    assert (granted.cores, granted.memory_mib) == (1, 1536)
    assert granted.class_.memory_limit_mib == 4608


def test_a_refusal_names_request_and_limit(catalogue: Catalogue) -> None:
    """Every excess is named, with the request and the limit, in one message."""
    with pytest.raises(Refusal) as caught:
        ask(catalogue, backend="slurm", **{"class": "small"}, cores=16, memory_mib=99999)
    assert "16 cores asked; class small allows 1" in str(caught.value)
    assert "99999 memory_mib asked; class small allows 1536" in str(caught.value)
    assert "99999 memory_mib asked; the facility allows 49152" in str(caught.value)


@pytest.mark.parametrize(
    ("raw", "word"),
    [
        ({"backend": "pbs"}, "backend"),
        ({"class": "huge"}, "class huge asked"),
        ({"environment": "root5"}, "environment root5 asked"),
        ({"partition": "x;rm -rf"}, "partition"),
        ({"partition": "x\nqueue 1000"}, "partition"),
        ({"cores": "many"}, "cores"),
        ({"cores": -1}, "cores"),
        ({"gpus": "k40:99"}, "99 GPUs asked; the facility allows 2"),
        ({"gpus": "$(evil):1"}, "gpus"),
        ({"batch_script": "rm"}, "batch_script"),
        ({"req_homedir": "/root"}, "req_homedir"),
    ],
)
def test_what_is_not_offered_is_refused(
    catalogue: Catalogue, raw: dict[str, Any], word: str
) -> None:
    """A forged, unknown or malformed field is refused by its name."""
    with pytest.raises(Refusal, match=word.replace("$", r"\$").replace("(", r"\(")):
        ask(catalogue, **raw)


def test_a_class_of_a_group_is_not_offered_to_others() -> None:
    """A class with groups is open to their members only."""
    offered = Catalogue.model_validate(
        {
            "environments": [{"name": "e", "title": "E", "prefix": "/opt/e"}],
            "classes": [
                {
                    "name": "big", "title": "Big", "backends": ["slurm"], "cores": 8,
                    "memory_mib": 8192, "runtime_min": 60, "groups": ["gpu"],
                }
            ],
        }
    )  # fmt: skip
    granted = grant(read_options({}), offered, backends=("slurm",), groups=frozenset({"gpu"}))
    assert granted.class_.name == "big"
    with pytest.raises(Refusal, match="open to your groups"):
        grant(read_options({}), offered, backends=("slurm",), groups=frozenset({"cms"}))


def test_every_error_of_a_catalogue_is_told(tmp_path: Path) -> None:
    """A broken catalogue is refused with each of its errors."""
    broken = tmp_path / "catalogue.yaml"
    broken.write_text("environments: []\nclasses: [{name: a}]\ncolour: red\n")
    with pytest.raises(ValueError, match="colour") as caught:
        load(broken)
    assert "environments" in str(caught.value)
    assert "classes.0.cores" in str(caught.value)


def test_the_form_offers_only_what_is_open(catalogue: Catalogue) -> None:
    """The page holds a choice for each backend and class, and reads back to options."""
    page = form.render(catalogue, backends=("htcondor", "local"), groups=frozenset())
    assert "htcondor/reserved" in page
    assert "local/small" in page
    assert "slurm/" not in page
    options = form.options_from_form({"choice": ["slurm/small"], "gpus": [""], "_xsrf": ["x"]})
    assert options == {"backend": "slurm", "class": "small"}


def test_a_forged_field_of_the_form_is_refused(catalogue: Catalogue) -> None:
    """A field that the page does not have reaches the check, and is refused there."""
    forged = form.options_from_form({"choice": ["slurm/small"], "exec_prefix": ["sudo"]})
    with pytest.raises(Refusal, match="exec_prefix"):
        ask(catalogue, **forged)
