"""What a person's Dask workers may run in, given to a session with its secrets.

The catalogue is the hub's; a session knows its own environment alone. What is given is no secret:
name → `prefix` or `container` of each environment that the person may use.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from afportal.catalogue import Catalogue
    from afportal.credentials.delivery import Delivery

# Below the session's private folder
FILE = "environments.json"


def put(delivery: Delivery, catalogue: Catalogue, groups: frozenset[str]) -> None:
    """Add the environments that a member of these groups may use to what is given."""
    which = {"prefix", "container"}
    delivery.files[FILE] = json.dumps(
        {
            each.name: each.model_dump(mode="json", include=which, exclude_defaults=True)
            for each in catalogue.environments_for(groups)
            if not each.stand_in
        }
    )
