"""The hub's database layer stays out of a user's server, and nothing false stays in its place."""

import pytest

from testbed.bed import Bed

pytestmark = pytest.mark.needs("faults")

WITHOUT = """
import sys
from afportal.session import launcher
launcher._import_extension()
kept = sorted(name for name in launcher._HUB_LAYER if name in sys.modules)
print("left:", kept)
import jupyterhub.orm, sqlalchemy.exc
print("real:", jupyterhub.orm.Base.__module__, sqlalchemy.exc.SQLAlchemyError.__module__)
from jupyterhub.log import log_request
print("log:", log_request.__module__)
"""
# As with another JupyterHub, which takes more from what is left out.
CHANGED = """
import sys
from afportal.session import launcher
del launcher._HUB_LAYER["jupyterhub.metrics"]["prometheus_log_method"]
launcher._import_extension()
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
    assert "real: sqlalchemy.orm" in said
    assert "sqlalchemy.exc\n" in said
    assert "log: jupyterhub.log" in said


def test_a_jupyterhub_that_needs_it_gets_it(bed: Bed) -> None:
    assert "whole: True True" in run(bed, CHANGED)
