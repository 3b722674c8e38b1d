"""What a user's server does not need stays out of it, and nothing false stays in its place."""

import pytest

from testbed.bed import Bed

pytestmark = pytest.mark.needs("faults")

WITHOUT = """
import sys
from afportal.session import launcher
launcher.preload()
left_out = [name for names in launcher._WITHOUT.values() for name in names]
print("left:", sorted(name for name in left_out if name in sys.modules))
print("early:", [name for name in ("aiohttp.client", "requests.api") if name in sys.modules])
import jupyterhub.orm, sqlalchemy.exc
print("real:", jupyterhub.orm.Base.__module__, sqlalchemy.exc.SQLAlchemyError.__module__)
from jupyterhub.log import log_request
print("log:", log_request.__module__)
import requests
print("requests:", requests.Session().verify)
from jupyterlab.extensions import get_pypi_manager
print("manager:", get_pypi_manager().metadata.name)
import jupyterhub.httpclient
print("fetch:", jupyterhub.httpclient.fetch.__module__)
"""
# As with another JupyterHub, which takes more from what is left out.
CHANGED = """
import sys
from afportal.session import launcher
name = "jupyterhub.singleuser.extension"
del launcher._WITHOUT[name]["jupyterhub.metrics"]["prometheus_log_method"]
launcher._import(name)
import jupyterhub.singleuser.extension, jupyterhub.metrics
print("whole:", "sqlalchemy" in sys.modules, callable(jupyterhub.metrics.prometheus_log_method))
"""


def run(bed: Bed, code: str) -> str:
    """What Python says in the notebook environment of a compute node."""
    done = bed.exec("slurm-node", ["/opt/envs/notebook/bin/python", "-I", "-c", code])
    assert done.ok, done.stderr
    return done.stdout


def test_it_is_left_out_and_can_still_be_had(bed: Bed) -> None:
    said = run(bed, WITHOUT)
    assert "left: []" in said
    assert "early: []" in said
    assert "real: sqlalchemy.orm" in said
    assert "sqlalchemy.exc\n" in said
    assert "log: jupyterhub.log" in said
    assert "requests: True" in said
    assert "manager: PyPI" in said
    assert "fetch: jupyterhub.httpclient" in said


def test_a_jupyterhub_that_needs_it_gets_it(bed: Bed) -> None:
    assert "whole: True True" in run(bed, CHANGED)
