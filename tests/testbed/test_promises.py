"""A promise not kept is the facility's failure; a check that broke is the testbed's."""

import pytest

from testbed.errors import ScenarioFailed, TestbedError
from testbed.promises import expect_within


def test_kept() -> None:
    assert expect_within(1, lambda: "yes", what="x") == "yes"


def test_not_kept() -> None:
    with pytest.raises(ScenarioFailed, match="no orphans"):
        expect_within(0.01, lambda: False, what="no orphans", poll_s=0.001)


def test_the_check_broke() -> None:
    def broken() -> None:
        raise TestbedError("condor_q failed")

    with pytest.raises(TestbedError, match="condor_q failed"):
        expect_within(1, broken, what="no orphans")
