"""Balanced hubs: one route until Log Out, one meeting place, a drain, and an instance that dies."""

from collections.abc import Callable, Iterator

import pytest

from testbed import faults, front
from testbed.bed import Bed
from testbed.errors import TestbedError
from testbed.guests import Guest
from testbed.hub_metrics import HubMetrics
from testbed.logins import Logins
from testbed.promises import expect_within
from testbed.site import Person

pytestmark = pytest.mark.needs("front_door", "faults")

Enter = Callable[..., Guest]

PAGES = "jupyterhub_request_duration_seconds_count"
HOME = "jupyterhub.handlers.pages.HomeHandler"


def _pages_shown(logins: Logins, guest: Guest) -> dict[str, float]:
    """How many home pages each instance of a guest's hub has shown so far."""
    return {
        instance: HubMetrics.read(logins.observer(instance)).total(PAGES, handler=HOME)
        for instance in guest.hub.instances
    }


def test_the_route_is_kept_over_fifty_requests(logins: Logins, guest: Guest) -> None:
    """Fifty pages in one session come from one instance."""
    instance = guest.instance
    assert instance in guest.hub.instances
    before = _pages_shown(logins, guest)
    for _ in range(50):
        assert guest.get("/hub/home").status_code == 200
        assert guest.instance == instance
    shown = {name: count - before[name] for name, count in _pages_shown(logins, guest).items()}
    assert shown == {name: 50.0 if name == instance else 0.0 for name in guest.hub.instances}


def test_two_browsers_of_one_person_meet(come_in: Enter, students: Iterator[Person]) -> None:
    """Whatever browser a person comes with, it leads to the same instance, and its servers."""
    person = next(students)
    one, other = come_in(person=person.name), come_in(person=person.name)
    assert one.browser is not other.browser
    assert one.instance == other.instance
    assert one.client().instance == one.instance


def test_a_running_server_draws_its_person(bed: Bed, come_in: Enter) -> None:
    """Somebody whose server runs at a drained instance is led there by a new browser."""
    guest = come_in()
    client = guest.client()
    client.spawn({"backend": "local"}, timeout_s=120)
    try:
        with _drained(bed, guest.instance):
            assert come_in(person=guest.person.name).instance == guest.instance
    finally:
        client.stop(timeout_s=120)
        client.close()


def test_a_drained_instance_takes_nobody_new(bed: Bed, come_in: Enter) -> None:
    """During a drain sessions stay where they are, and who comes then goes elsewhere."""
    guest = come_in()
    newcomer = _of_the_same_instance(come_in, guest)
    with _drained(bed, guest.instance):
        assert guest.get("/hub/home").status_code == 200
        assert guest.who() == guest.person.name
        elsewhere = come_in(person=newcomer)
        assert elsewhere.instance != guest.instance
        assert elsewhere.who() == newcomer
    assert come_in(person=newcomer).instance == guest.instance


@pytest.mark.parametrize("dead", [("hub",), ("hub", "chp")], ids=["hub", "hub and its proxy"])
def test_when_an_instance_dies_its_people_are_told(
    bed: Bed, come_in: Enter, dead: tuple[str, ...]
) -> None:
    """A page names the instance and says that servers are kept; one form leads elsewhere."""
    guest = come_in()
    client = guest.client()
    client.spawn({"backend": "local"}, timeout_s=120)
    instance = guest.instance
    try:
        with faults.kill(bed, f"{dead[-1]}-{instance}"):
            if len(dead) > 1:
                bed.container(f"hub-{instance}").kill()
            page = guest.get("/hub/home", follow=True, headers={"Accept": "text/html"})
            assert page.status_code == 503
            assert instance in page.text
            assert "kept" in page.text
            assert f'action="/-/elsewhere/{guest.hub.name}"' in page.text
            origin = bed.front_door_url
            moved = guest.browser.post(
                f"{origin}/-/elsewhere/{guest.hub.name}",
                data={"instance": instance},
                headers={"Origin": origin, "Accept": "text/html"},
                timeout=60,
            )
            assert moved.status_code == 200, moved.text[:300]
            assert guest.instance != instance
            assert guest.who() == guest.person.name
            if len(dead) > 1:
                bed.container(f"hub-{instance}").start()
        bed.wait_healthy(f"hub-{instance}")
        server = expect_within(
            60, lambda: client.servers().get(""), what="the instance knows the server again"
        )
        assert server["ready"]
    finally:
        client.stop(timeout_s=120)
        client.close()


def _of_the_same_instance(come_in: Enter, guest: Guest) -> str:
    """Somebody else whom the front door sends to the same instance."""
    for _ in range(8):
        other = come_in()
        if other.instance == guest.instance:
            return other.person.name
    raise TestbedError(f"eight people, and none of them at {guest.instance}")


class _drained:  # noqa: N801 - reads as a sentence where it is used
    """An instance takes nobody new while the block runs."""

    def __init__(self, bed: Bed, instance: str) -> None:
        self._bed, self._instance = bed, instance

    def __enter__(self) -> None:
        front.drain(self._bed, self._instance)

    def __exit__(self, *_: object) -> None:
        front.undrain(self._bed, self._instance)
