"""The spawn page: what this person may use, nothing else, and when each would start.

Works without its script too; with it, fields appear and change with the choices, and what is
foretold follows them.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from afportal import offers
from afportal.catalogue import BackendName, Catalogue, Class
from afportal.offers import Options, Person, Place, Refusal
from afportal.pool.access import Access, allows
from afportal.pool.forecast import Forecast

STATIC = Path(__file__).parent / "static"

_BADGES = {
    "now": "text-bg-success", "later": "text-bg-warning", "full": "text-bg-secondary",
    "never": "text-bg-danger", "unknown": "text-bg-light",
}  # fmt: skip
# A time of day alone would be read as today's.
_NEXT_DAY_S = 12 * 3600


def offer(
    catalogue: Catalogue, *, backends: Sequence[BackendName], person: Person
) -> dict[str, Any]:
    """Return all that this person may choose, as the page's script reads it.

    Accounts, partitions and QOS stand beside each other, with what each says of the others:
    who has 200 accounts in 50 partitions is not sent 10,000 combinations.
    """
    offered = [
        found for name in backends if (found := _backend(catalogue, person.at(name), person))
    ]
    # Environment → where it may run.
    runs_on: dict[str, list[str]] = {}
    for found in offered:
        for environment in person.environments(catalogue, found["name"]):
            runs_on.setdefault(environment.name, []).append(found["name"])
    return {
        "backends": offered,
        "environments": [
            {
                "name": e.name, "title": e.shown, "description": e.description,
                "section": e.section, "gpus": e.gpus, "class": e.default_class,
                "icon": e.icon, "stand_in_for": e.stand_in_for or None,
                "container": e.container is not None, "backends": runs_on[e.name],
            }
            for e in (*catalogue.environments, *person.own)
            if e.name in runs_on
        ],
        "most_gpus": catalogue.limits.gpus,
    }  # fmt: skip


def _backend(catalogue: Catalogue, place: Place, person: Person) -> dict[str, Any] | None:
    classes = catalogue.classes_of(place.name, person.groups)
    environments = person.environments(catalogue, place.name)
    # A scheduler where this person has no account has nothing for them.
    barred = place.access is not None and not place.access.partitions
    if not classes or not environments or barred:
        return None
    told: dict[str, Any] = {
        "name": place.name,
        "title": place.title,
        "classes": [_class(c, catalogue, place, person) for c in classes],
        "gpus": place.gpus,
        # When its scheduler was asked, unix seconds.
        "asked_at": place.outlook.pool.asked_s if place.outlook is not None else None,
    }
    if place.access is not None:
        told |= _places(place.access)
    return told


def _places(access: Access) -> dict[str, Any]:
    """Return partitions and accounts, each partition with those that it takes; None: all."""
    names = {account.name for account in access.accounts}
    qos = {name for account in access.accounts for name in account.qos}

    def some(found: set[str], everything: set[str]) -> list[str] | None:
        return None if found == everything else sorted(found)

    return {
        "partitions": [
            {
                "name": p.name,
                "accounts": some({a.name for a in access.accounts if allows(p, a)}, names),
                "qos": some(access.all_qos_for(p), qos),
                "gpus": access.most(p, "").gpus,
            }
            for p in access.partitions
        ],
        "accounts": [
            {"name": a.name, "partition": a.partition, "qos": a.qos}
            for a in sorted(access.accounts, key=lambda a: (not a.default, a.name))
        ],
    }


def _class(class_: Class, catalogue: Catalogue, place: Place, person: Person) -> dict[str, Any]:
    return {
        "name": class_.name,
        "title": class_.title,
        "cores": min(class_.cores, catalogue.limits.cores),
        "memory_mib": min(class_.memory_mib, catalogue.limits.memory_mib),
        "runtime_min": min(class_.runtime_min, catalogue.limits.runtime_min),
        "forecast": told(
            offers.foretold(
                Options.model_validate({"backend": place.name, "class": class_.name}),
                catalogue, backends=(place.name,), person=person,
            )
        ),
    }  # fmt: skip


def told(found: Forecast) -> dict[str, Any]:
    """Return a forecast as JSON, with its words."""
    return {**asdict(found), "words": words(found)}


def words(found: Forecast) -> str:
    """Say a forecast in plain words; a time is in UTC, the page's script shows the person's own."""
    ahead = f", {found.ahead} waiting before you" if found.ahead else ""
    match found.standing:
        case "now":
            return "would start now"
        case "later":
            at = datetime.fromtimestamp(found.at_s or 0, UTC)
            day = f"{at:%d %b} " if (found.at_s or 0) - time.time() > _NEXT_DAY_S else ""
            return f"about {day}{at:%H:%M} UTC at the latest{ahead}"
        case "full":
            return found.why or f"full; nobody can say until when{ahead}"
        case "never":
            return found.why or "no machine here is that large"
        case _:
            return "its scheduler does not say now"


def would_start_now(
    catalogue: Catalogue,
    *,
    backends: tuple[BackendName, ...],
    person: Person,
    environment: str | None = None,
) -> Options:
    """Return the first choice that would start at once, in the order of the page.

    Raises:
        Refusal: There is none; the message says what starts soonest.
    """
    offered = {e.name for name in backends for e in person.environments(catalogue, name)}
    if environment and environment not in offered:
        names = ", ".join(sorted(offered)) or "none"
        raise Refusal(f"environment {environment} asked; you are offered {names}")
    soonest: tuple[float, str] | None = None
    for backend in backends:
        for class_ in catalogue.classes_of(backend, person.groups):
            options = Options.model_validate(
                {"backend": backend, "class": class_.name, "environment": environment}
            )
            found = offers.foretold(options, catalogue, backends=backends, person=person)
            if found.standing == "now":
                return options
            if found.at_s is not None and (soonest is None or found.at_s < soonest[0]):
                where = person.at(backend).title
                soonest = (found.at_s, f"{where}, {class_.title}: {words(found)}")
    raise Refusal(
        "nothing would start now"
        + (f"; soonest {soonest[1]}" if soonest else "; choose where you wish to wait")
    )


# The page


def render(
    catalogue: Catalogue,
    *,
    backends: Sequence[BackendName],
    person: Person,
    base_url: str = "/hub/",
    chosen: Mapping[str, Any] | None = None,
) -> str:
    """Return the form's fields as HTML; one choice is a backend with a class.

    Args:
        base_url: the hub's own, where the script is.
        chosen: options that are proposed, those of the last server that started.
    """
    data = offer(catalogue, backends=backends, person=person)
    if not data["backends"]:
        raise Refusal(
            "nothing here is open to you: no class, no environment or no account of a scheduler; "
            "ask your facility"
        )
    chosen = dict(chosen or {})
    first = data["backends"][0]
    wanted = f"{chosen.get('backend', first['name'])}/{chosen.get('class', '')}"
    values = [f"{b['name']}/{c['name']}" for b in data["backends"] for c in b["classes"]]
    if wanted not in values:
        wanted = values[0]
    script = escape(f"{base_url}af/static/form.js?v={_version()}")
    soon = any(c["forecast"]["standing"] == "now" for b in data["backends"] for c in b["classes"])
    return f"""
<div id="af-form" data-forecast-url="{escape(base_url)}api/af/forecast"
  data-spawn-url="{escape(base_url)}spawn"
  data-icons="{escape(base_url)}af/static/icons/">
  <button type="submit" class="visually-hidden" tabindex="-1" aria-hidden="true">Start</button>
  <p id="af-now-place"{"" if soon else " hidden"}>
    <button class="btn btn-outline-success" type="submit" name="now" value="yes" id="af-now">
      Start what would start now</button>
  </p>
  <fieldset class="mb-3">
    <legend class="fs-5">Where and how large</legend>
    {"".join(_choices(b, wanted) for b in data["backends"])}
  </fieldset>
  <div class="mb-3">
    <label class="form-label" for="af-environment">Environment</label>
    <select class="form-select" id="af-environment" name="environment"
      aria-describedby="af-environment-text">
      {_environments(data["environments"], chosen.get("environment"))}</select>
    <div class="form-text" id="af-environment-text"></div>
  </div>
  <p role="status" aria-live="polite" id="af-status"></p>
  <details class="mb-3" id="af-advanced">
    <summary>Advanced: less than the class has, partition, account, GPUs</summary>
    <div class="row g-2 mt-1">{_fields(data, chosen)}</div>
    <p class="form-text" id="af-link-place" hidden>
      <a id="af-link">Link that starts this choice</a></p>
  </details>
</div>
<script type="application/json" id="af-offer">{_json(data)}</script>
<script src="{script}" defer></script>
"""


def _choices(backend: Mapping[str, Any], wanted: str) -> str:
    rows = []
    for class_ in backend["classes"]:
        value = f"{backend['name']}/{class_['name']}"
        found = class_["forecast"]
        never = found["standing"] == "never"
        rows.append(
            f'<label class="list-group-item d-flex gap-2 align-items-center">'
            f'<input class="form-check-input m-0" type="radio" name="choice" required '
            f'value="{escape(value)}"{" checked" if value == wanted else ""}>'
            f'<span class="flex-grow-1">{escape(class_["title"])}</span>'
            f'<span class="badge {_BADGES[found["standing"]]} text-wrap" data-af-forecast '
            f'data-standing="{found["standing"]}" data-at="{found["at_s"] or ""}" '
            f'data-ahead="{found["ahead"]}">'
            f"{escape('not for you now: ' if never and found['why'] else '')}"
            f"{escape(found['words'])}</span></label>"
        )
    heading = f"af-at-{escape(backend['name'])}"
    return (
        f'<div class="mb-2" role="group" aria-labelledby="{heading}">'
        f'<h2 class="fs-6 mb-1" id="{heading}">{escape(backend["title"])}</h2>'
        f'<div class="list-group">{"".join(rows)}</div></div>'
    )


def _environments(environments: Sequence[Mapping[str, Any]], chosen: str | None) -> str:
    sections: dict[str, list[str]] = {}
    for e in environments:
        selected = " selected" if e["name"] == chosen else ""
        sections.setdefault(e["section"], []).append(
            f'<option value="{escape(e["name"])}"{selected}>{escape(e["title"])}</option>'
        )
    return "".join(
        f'<optgroup label="{escape(name)}">{"".join(options)}</optgroup>'
        if name
        else "".join(options)
        for name, options in sections.items()
    )


def _fields(data: Mapping[str, Any], chosen: Mapping[str, Any]) -> str:
    with_accounts = [b for b in data["backends"] if "partitions" in b]
    any_gpus = any(sum(b["gpus"].values()) for b in data["backends"])
    kinds = sorted({kind for b in data["backends"] for kind in b["gpus"] if kind})
    kind, _, count = str(chosen.get("gpus") or "").rpartition(":")
    fields = []

    def choice(name: str, label: str, values: Iterable[str], current: str, none: str) -> None:
        options = "".join(
            f'<option value="{escape(v)}"{" selected" if v == current else ""}>{escape(v)}</option>'
            for v in values
        )
        fields.append(
            f'<div class="col-sm-6 col-lg-4" data-af-field="{name}">'
            f'<label class="form-label" for="af-{name}">{label}</label>'
            f'<select class="form-select" id="af-{name}" name="{name}">'
            f'<option value="">{none}</option>{options}</select></div>'
        )

    def number(name: str, label: str, least: int, current: Any) -> None:
        fields.append(
            f'<div class="col-sm-6 col-lg-4" data-af-field="{name}">'
            f'<label class="form-label" for="af-{name}">{label}</label>'
            f'<input class="form-control" type="number" id="af-{name}" name="{name}" '
            f'min="{least}" step="1" value="{escape(str(current or ""))}"></div>'
        )

    number("cores", "Cores", 1, chosen.get("cores"))
    number("memory_mib", "Memory, MiB", 256, chosen.get("memory_mib"))
    number("runtime_min", "Run time, minutes", 1, chosen.get("runtime_min"))
    if with_accounts:
        names = sorted({p["name"] for b in with_accounts for p in b["partitions"]})
        accounts = sorted({a["name"] for b in with_accounts for a in b["accounts"]})
        qos = sorted({name for b in with_accounts for a in b["accounts"] for name in a["qos"]})
        choice("partition", "Partition", names, str(chosen.get("partition") or ""), "automatic")
        choice("account", "Account", accounts, str(chosen.get("account") or ""), "your default")
        choice("qos", "QOS", qos, str(chosen.get("qos") or ""), "automatic")
    if any_gpus:
        choice("gpu_kind", "GPU", ["any", *kinds], kind or ("any" if count else ""), "none")
        number("gpu_count", "How many GPUs", 1, count)
    return "".join(fields)


def _json(data: Mapping[str, Any]) -> str:
    """JSON that no text in it can end the script element of."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


@cache
def _version() -> str:
    return hashlib.sha256((STATIC / "form.js").read_bytes()).hexdigest()[:12]


def text_of(fields: Mapping[str, Sequence[bytes]]) -> dict[str, list[str]]:
    """Return fields as they came over the wire as text.

    Raises:
        Refusal: some are no UTF-8; the message names each of them.
    """
    found: dict[str, list[str]] = {}
    wrong = []
    for name, values in fields.items():
        for value in values:
            try:
                found.setdefault(name, []).append(value.decode())
            except UnicodeDecodeError:
                wrong.append(f"{name} {offers.quoted(value)} asked; text in UTF-8 is taken")
    if wrong:
        raise Refusal("; ".join(wrong))
    return found


def options_from_form(data: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Turn fields into options; empty ones are left out, unknown ones kept to be refused.

    Raises:
        Refusal: the form contradicts itself; no browser sends such a one.
    """
    wrong = [
        f"{name} asked {len(values)} times, {offers.quoted([*values])}; once is taken"
        for name, values in data.items()
        if len(values) > 1
    ]
    options: dict[str, Any] = {
        name: values[0] for name, values in data.items() if values and values[0] != ""
    }
    options.pop("_xsrf", None)
    choice = options.pop("choice", None)
    made: dict[str, Any] = {}
    if choice is not None:
        backend, _, class_ = str(choice).partition("/")
        made |= {"backend": backend, "class": class_}
    kind, count = options.pop("gpu_kind", ""), options.pop("gpu_count", "")
    if kind:
        made["gpus"] = str(count or 1) if kind == "any" else f"{kind}:{count or 1}"
    elif count and not str(count).isdecimal():
        made["gpus"] = count
    wrong += [
        f"{name} {offers.quoted(options[name])} asked beside {offers.quoted(value)}; one is taken"
        for name, value in made.items()
        if name in options and options[name] != value
    ]
    if wrong:
        raise Refusal("; ".join(wrong))
    return options | made
