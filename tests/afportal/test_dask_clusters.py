"""What a cluster is asked for, and what differs between a notebook and its workers, in words."""

from __future__ import annotations

import socket

import pytest

from afportal.dask import clusters, ready_made, versions


@pytest.mark.parametrize(
    ("walltime", "expected_s"),
    [
        ("01:00:00", 3600),
        ("1-02:00:00", 93_600),
        ("00:30", 1800),
        ("90 minutes", 5400),
        ("2h", 7200),
    ],
)
def test_a_time_is_said_as_slurm_or_dask_say_it(walltime: str, expected_s: int) -> None:
    assert clusters.seconds(walltime) == expected_s


@pytest.mark.parametrize("walltime", ["soon", "1:2:x", "", "30 s"])
def test_a_time_that_is_none_is_refused(walltime: str) -> None:
    with pytest.raises(ValueError, match="walltime"):
        clusters.seconds(walltime)


HERE = {"python": "3.13.5.final.0", "dask": "2026.8.0", "lz4": "4.4.5"}


def test_what_agrees_needs_no_word() -> None:
    assert versions.told(HERE, {"a-0": {**HERE}, "a-1": {**HERE}}) == ""


def test_what_differs_is_told_with_both_versions_and_the_cure() -> None:
    other = {**HERE, "dask": "2025.1.0", "lz4": None}
    words = versions.told(HERE, {f"a-{n}": other for n in range(5)})
    assert "dask is 2025.1.0 on a-0, a-1, a-2 and 2 more and 2026.8.0 in the notebook" in words
    assert "lz4 is missing on a-0" in words
    assert "leave it out" in words
    assert "python is" not in words


def test_only_what_a_session_has_is_ready_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """No certificates, no side bar; a scheduler whose clients are missing is not offered."""
    there = {"dask_jobqueue", "htcondor2"}
    monkeypatch.delenv("DASK_DISTRIBUTED__COMM__TLS__CA_FILE", raising=False)
    monkeypatch.setattr(ready_made.importlib.util, "find_spec", lambda name: name in there or None)
    monkeypatch.setattr("shutil.which", lambda _name: None)
    assert ready_made.here() == ()
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__TLS__CA_FILE", "/x/ca.pem")
    (entry,) = ready_made.here()
    model = entry.model("tls://192.0.2.7:4711")
    assert (model["name"], model["workers"], model["adapt"]["minimum"]) == ("HTCondor", 0, 0)
    there.remove("htcondor2")
    monkeypatch.setattr("shutil.which", lambda name: name if name == "sbatch" else None)
    assert [each.title for each in ready_made.here()] == ["Slurm"]
    there.clear()
    assert ready_made.here() == ()


def test_a_name_that_means_the_node_itself_is_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers elsewhere would look for the scheduler on their own node."""
    monkeypatch.setattr(socket, "gethostbyname", lambda _name: "192.0.2.9")
    assert ready_made.node_address() == "192.0.2.9"
    monkeypatch.setattr(socket, "gethostbyname", lambda _name: "127.0.1.1")
    assert not ready_made.node_address().startswith("127.0.1")
