"""What a session is given beside its secrets."""

import asyncio
from typing import Any

import pytest
from pydantic import ValidationError

from afportal.credentials.delivery import Credentials
from afportal.credentials.settings import CredentialSettings


def told(**settings: Any) -> dict[str, str]:
    credentials = Credentials(CredentialSettings.model_validate(settings), {})
    return asyncio.run(credentials.deliver("alice")).environment


def test_the_site_says_which_access_point_jobs_go_to() -> None:
    """By HTCondor's own variables, which its commands and bindings read; else nodes' files hold."""
    remote = {"schedd": "sched@far", "credd": "far:9620", "spool": True}
    assert told(access_point=remote) == {
        "_CONDOR_SCHEDD_HOST": "sched@far",
        "_CONDOR_CREDD_HOST": "far:9620",
        "_CONDOR_AF_SPOOL_JOBS": "True",
    }
    assert told() == {}


def test_an_access_point_is_named_whole() -> None:
    """With a schedd here and a credd there, jobs would wait for tokens that never come."""
    with pytest.raises(ValidationError, match=r"access_point\.credd"):
        told(access_point={"schedd": "sched@far"})
