"""How a service is, from what the engine says about its containers."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# From bad to good: a service is as well as its worst container.
STATES = ("absent", "exited", "restarting", "unhealthy", "paused", "created", "starting",
          "running", "healthy", "done")  # fmt: skip
GOOD = frozenset({"running", "healthy", "done"})
# Runs, and the engine has not yet seen it well; after an unpause it looks again only when
# a whole interval has passed, and says unhealthy until then.
UNPROVEN = frozenset({"starting", "unhealthy"})


@dataclass(frozen=True)
class Health:
    """One service's state.

    `done` is a one-shot service that ended with 0, `running` one without a healthcheck.
    """

    service: str
    state: str
    detail: str = ""
    since: str = ""
    image: str = ""
    containers: int = 0

    @property
    def ok(self) -> bool:
        return self.state in GOOD


def of_service(
    service: str, summaries: Sequence[Mapping[str, Any]], *, one_shot: bool = False
) -> Health:
    """The health of a service from the engine's container list.

    Args:
        summaries: Entries of `GET /containers/json?all=1` of this service.
        one_shot: Exited with 0 is what it should do.
    """
    if not summaries:
        return Health(service, "absent", detail="no container")
    states = [(of_container(summary, one_shot=one_shot), summary) for summary in summaries]
    state, worst = min(states, key=lambda pair: STATES.index(pair[0]))
    status = str(worst.get("Status", ""))
    return Health(
        service,
        state,
        detail=status if state not in GOOD else "",
        since=_since(status),
        image=_image_name(str(worst.get("Image", ""))),
        containers=len(summaries),
    )


def of_container(summary: Mapping[str, Any], *, one_shot: bool = False) -> str:
    """One of STATES, from an entry of the engine's container list.

    Source: the engine writes health and exit code into `Status` ("Up 3 seconds (health:
    starting)", "Exited (1) 2 seconds ago").
    """
    state, status = str(summary.get("State", "")), str(summary.get("Status", ""))
    if state == "running":
        if "(healthy)" in status:
            return "healthy"
        if "(unhealthy)" in status:
            return "unhealthy"
        return "starting" if one_shot or "(health: starting)" in status else "running"
    if state == "exited" and one_shot and exit_code(summary) == 0:
        return "done"
    if state in ("dead", "removing", "exited"):
        return "exited"
    return state if state in STATES else "absent"


def exit_code(summary: Mapping[str, Any]) -> int | None:
    found = re.match(r"Exited \((\d+)\)", str(summary.get("Status", "")))
    return int(found[1]) if found else None


def _image_name(image: str) -> str:
    """The engine gives an id where the name has moved on to a newer image."""
    return f"older {image[7:19]}" if image.startswith("sha256:") else image


def _since(status: str) -> str:
    """'2 minutes' from 'Up 2 minutes (healthy)' or 'Exited (0) 2 minutes ago'."""
    bare = re.sub(r"\([^)]*\)", "", status).replace("ago", "")
    return " ".join(word for word in bare.split() if word not in ("Up", "Exited", "Restarting"))
