"""The spawn page: what this person may use, nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from afportal.catalogue import BackendName, Catalogue

_TITLES: Mapping[str, str] = {
    "htcondor": "HTCondor",
    "slurm": "Slurm",
    "local": "Run locally",
}


def render(catalogue: Catalogue, *, backends: Sequence[BackendName], groups: frozenset[str]) -> str:
    """Return the form's fields as HTML; one choice is a backend with a class."""
    choices = []
    for backend in backends:
        options = "".join(
            f'<option value="{escape(backend)}/{escape(c.name)}">'
            f"{escape(_TITLES[backend])}: {escape(c.title)}</option>"
            for c in catalogue.classes_of(backend, groups)
        )
        if options:
            choices.append(f'<optgroup label="{escape(_TITLES[backend])}">{options}</optgroup>')
    environments = "".join(
        f'<option value="{escape(e.name)}">{escape(e.title)}</option>'
        for e in catalogue.environments
    )
    return f"""
<div class="mb-3">
  <label class="form-label" for="af-choice">Where and how large</label>
  <select class="form-select" id="af-choice" name="choice" required>{"".join(choices)}</select>
</div>
<div class="mb-3">
  <label class="form-label" for="af-environment">Environment</label>
  <select class="form-select" id="af-environment" name="environment">{environments}</select>
</div>
<details class="mb-3">
  <summary>More</summary>
  <label class="form-label mt-2" for="af-partition">Slurm partition</label>
  <input class="form-control" id="af-partition" name="partition" pattern="[A-Za-z0-9_.-]*">
  <label class="form-label mt-2" for="af-account">Account</label>
  <input class="form-control" id="af-account" name="account" pattern="[A-Za-z0-9_.-]*">
  <label class="form-label mt-2" for="af-gpus">GPUs (kind:count)</label>
  <input class="form-control" id="af-gpus" name="gpus" placeholder="k40:1">
</details>
"""


def options_from_form(data: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Turn fields into options; empty ones are left out, unknown ones kept to be refused."""
    options: dict[str, Any] = {
        name: values[0] for name, values in data.items() if values and values[0] != ""
    }
    options.pop("_xsrf", None)
    choice = options.pop("choice", None)
    if choice is not None:
        options["backend"], _, options["class"] = str(choice).partition("/")
    return options
