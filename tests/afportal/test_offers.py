"""What a person asks is checked against what the facility offers that person."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from afportal import form
from afportal.backends import Traits
from afportal.catalogue import Catalogue, load
from afportal.offers import (
    Grant,
    Person,
    Place,
    Refusal,
    foretold,
    grant,
    longest_min,
    place_of,
    read_options,
)
from afportal.pool import Account, Machine, Partition, Pool, Qos, Room, Running
from afportal.pool.forecast import Outlook

CATALOGUE = Path(__file__).parents[2] / "compose" / "hub" / "config" / "catalogue.yaml"


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load(CATALOGUE)


SLURM = Traits(True, "main", reserves_limit=True)
UNHEARD = {"slurm": Place("slurm", traits=SLURM)}
ALICE = Person("alice", frozenset({"cms"}), UNHEARD)
BACKENDS = ("htcondor", "slurm", "local")


def ask(catalogue: Catalogue, person: Person = ALICE, **raw: Any) -> Grant:
    return grant(read_options(raw), catalogue, backends=BACKENDS, person=person)


def with_slurm(**more: Any) -> Person:
    """Alice with one account at a cluster of one node: 4 cores, one of them free, and a K40."""
    machine = Machine(
        "n1", Room(4, 8000, {"k40": 1}), Room(1, 4000, {"k40": 1}), frozenset(["main", "gpu"])
    )
    pool = Pool(
        (machine,),
        (Partition("main", runtime_min=600), Partition("gpu", qos=frozenset(["gpu"]))),
        {"alice": (Account("cms", default=True, qos=("normal", "gpu"), default_qos="normal"),)},
        {"gpu": Qos("gpu", runtime_min=100)},
        (Running("n1", Room(3, 4000), 2_000_000_000.0),),
        **more,
    )
    groups = frozenset({"cms"})
    place = place_of("slurm", Outlook(pool), "alice", groups, SLURM)
    return Person("alice", groups, {"slurm": place})


def test_nothing_asked_gives_the_first_class(catalogue: Catalogue) -> None:
    """An empty request gets the default backend's first class, whole."""
    granted = ask(catalogue)
    assert (granted.backend, granted.class_.name) == ("htcondor", "reserved")
    assert (granted.cores, granted.memory_mib) == (1, 1536)
    assert granted.class_.memory_limit_mib == 4608


def test_a_refusal_names_request_and_limit(catalogue: Catalogue) -> None:
    """Every excess is named, with the request and the limit, in one message."""
    with pytest.raises(Refusal) as caught:
        ask(catalogue, backend="slurm", **{"class": "small"}, cores=16, memory_mib=99999)
    assert "16 cores asked; class small allows 1" in str(caught.value)
    assert "99999 memory_mib asked; class small allows 1536" in str(caught.value)
    assert "99999 memory_mib asked; the facility allows 49152" in str(caught.value)


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ({"backend": "pbs"}, "backend pbs asked; this hub offers htcondor, slurm, local"),
        ({"backend": "a/b"}, "backend 'a/b' asked; the name of a backend is taken"),
        ({"class": "huge"}, "class huge asked; htcondor offers you reserved, regular"),
        ({"environment": "root5"}, "environment root5 asked; htcondor offers you python"),
        ({"partition": "x;rm -rf"}, "partition 'x;rm -rf' asked; a name of at most 64"),
        ({"partition": "x\nqueue 1000"}, "partition 'x\\nqueue 1000' asked; a name"),
        ({"account": {}}, "account {} asked; a name of at most 64"),
        ({"cores": "many"}, "cores 'many' asked; a whole number is taken"),
        ({"cores": -1}, "cores -1 asked; 1 is the least"),
        ({"gpus": "k40:99"}, "99 GPUs asked; the facility allows 2"),
        ({"gpus": "$(evil):1"}, "gpus '$(evil):1' asked; a number is taken, or a kind"),
        ({"batch_script": "rm"}, "batch_script 'rm' asked; there is no such option, only backend"),
        ({"qos": 99 * "x"}, f"qos '{58 * 'x'}… asked; a name"),
    ],
)
def test_what_is_not_offered_is_refused(
    catalogue: Catalogue, raw: dict[str, Any], told: str
) -> None:
    """A forged, unknown or malformed field is refused by its name, with request and limit."""
    with pytest.raises(Refusal, match=re.escape(told)):
        ask(catalogue, **raw)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"cores": ["1", "2"]}, "cores asked 2 times, ['1', '2']; once is taken"),
        ({"choice": ["slurm/small"], "backend": ["local"]}, "backend 'local' asked beside 'slurm'"),
        ({"gpu_kind": ["k40"], "gpus": ["1"]}, "gpus '1' asked beside 'k40:1'; one is taken"),
    ],
)
def test_a_form_that_contradicts_itself_is_refused(fields: dict[str, list[str]], told: str) -> None:
    """Which of two was meant is nobody's to guess."""
    with pytest.raises(Refusal, match=re.escape(told)):
        form.options_from_form(fields)
    same = {"choice": ["slurm/small"], "backend": ["slurm"]}
    assert form.options_from_form(same) == {"backend": "slurm", "class": "small"}


def test_a_class_of_a_group_is_not_offered_to_others() -> None:
    """A class with groups is open to their members only."""
    offered = Catalogue.model_validate(
        {
            "environments": [{"name": "e", "title": "E", "prefix": "/opt/e"}],
            "classes": [
                {
                    "name": "big", "title": "Big", "backends": ["slurm"], "cores": 8,
                    "memory_mib": 8192, "runtime_min": 60, "groups": ["gpu"],
                }
            ],
        }
    )  # fmt: skip
    member = Person("carol", frozenset({"gpu"}))
    granted = grant(read_options({}), offered, backends=("slurm",), person=member)
    assert granted.class_.name == "big"
    with pytest.raises(Refusal, match="open to your groups"):
        grant(read_options({}), offered, backends=("slurm",), person=ALICE)


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ({"partition": "secret"}, "partition secret asked; you may use gpu, main"),
        ({"account": "atlas"}, "account atlas asked; in partition main you may use cms"),
        ({"partition": "main", "account": "atlas"}, "account atlas asked"),
        ({"partition": "gpu", "qos": "normal"}, "QOS normal asked; partition gpu"),
        ({"gpus": "k40:2"}, "2 GPUs k40 asked; partition .* has 1 on one machine"),
        ({"gpus": "t4:1"}, "1 GPUs t4 asked"),
        ({"partition": "gpu", "runtime_min": 480}, "480 runtime_min asked; .* allows 100"),
    ],
)
def test_what_the_scheduler_would_refuse_is_refused_before(
    catalogue: Catalogue, raw: dict[str, Any], told: str
) -> None:
    with pytest.raises(Refusal, match=told):
        ask(catalogue, with_slurm(), backend="slurm", **raw)


def test_the_schedulers_own_defaults_are_left_to_it(catalogue: Catalogue) -> None:
    """What nobody chose is not sent; what cannot run by default is sent where it can."""
    usual = ask(catalogue, with_slurm(), backend="slurm")
    assert (usual.partition, usual.account, usual.qos) == ("", "", "")
    gpu = ask(catalogue, with_slurm(), backend="slurm", partition="gpu", gpus="1", runtime_min=60)
    assert (gpu.partition, gpu.account, gpu.qos) == ("gpu", "", "gpu")


def test_a_run_time_that_nobody_asked_for_is_as_long_as_may_be(catalogue: Catalogue) -> None:
    """A class's eight hours in a partition of a hundred minutes are those hundred."""
    found = ask(catalogue, with_slurm(), backend="slurm", partition="gpu")
    assert (found.partition, found.runtime_min) == ("gpu", 100)
    wanted = read_options({"backend": "slurm", "partition": "gpu", "runtime_min": 480})
    about: dict[str, Any] = {"backends": BACKENDS, "person": with_slurm()}
    assert longest_min(wanted, catalogue, **about) == 100
    assert foretold(wanted, catalogue, **about).standing == "never"
    nowhere = read_options({"backend": "slurm", "partition": "secret"})
    assert longest_min(nowhere, catalogue, **about) is None


def test_the_page_knows_accounts_below_those_that_a_partition_takes() -> None:
    """Whom a partition takes is judged here; the page is told a list, or that it takes all."""
    accounts = (
        Account("higgs", above=frozenset({"cms"}), default=True, qos=("normal",)),
        Account("dune", qos=("normal", "gold")),
    )
    parts = (
        Partition("cms", accounts=frozenset({"cms"})),
        Partition("all"),
        Partition("plain", denied_qos=frozenset({"gold"})),
    )
    room = Room(4, 8000)
    pool = Pool(
        (Machine("n1", room, room, frozenset(p.name for p in parts)),), parts, {"alice": accounts}
    )
    place = place_of("slurm", Outlook(pool), "alice", frozenset(), SLURM)
    told = form.offer(
        load(CATALOGUE), backends=("slurm",), person=Person("alice", places={"slurm": place})
    )
    (slurm,) = told["backends"]
    assert {p["name"]: (p["accounts"], p["qos"]) for p in slurm["partitions"]} == {
        "cms": (["higgs"], ["normal"]), "all": (None, None), "plain": (None, ["normal"]),
    }  # fmt: skip


def test_a_scheduler_that_was_never_heard_is_the_judge_itself(catalogue: Catalogue) -> None:
    """Nothing is known of it, so nothing is refused in its name."""
    assert ask(catalogue, backend="slurm", partition="any").partition == "any"


@pytest.mark.parametrize("heard", [True, False])
def test_where_the_hub_submits_by_its_own_right_it_judges(
    catalogue: Catalogue, *, heard: bool
) -> None:
    """Nobody takes another group's account on HTCondor, whether its pool was heard or not."""
    machine = Machine("s1", Room(4, 8000), Room(4, 8000))
    outlook = Outlook(Pool((machine,))) if heard else None
    place = place_of("htcondor", outlook, "alice", ALICE.groups)
    with pytest.raises(Refusal, match="account atlas asked; you are in cms"):
        ask(catalogue, Person("alice", ALICE.groups, {"htcondor": place}), account="atlas")


def test_the_facilitys_own_settings_are_no_persons_choice(catalogue: Catalogue) -> None:
    """They fill in what was left open, where the scheduler has such a thing, and are not judged."""
    defaults = {"partition": "main", "account": "common", "cores": 1}
    places = {
        name: place_of(name, None, "alice", ALICE.groups, traits, defaults)
        for name, traits in (("htcondor", Traits()), ("slurm", SLURM))
    }
    alice = Person("alice", ALICE.groups, places)
    htcondor = ask(catalogue, alice, backend="htcondor")
    assert (htcondor.partition, htcondor.account) == ("", "common")
    slurm = ask(catalogue, alice, backend="slurm")
    assert (slurm.partition, slurm.account) == ("main", "common")


def test_htcondor_has_no_partitions_to_choose(catalogue: Catalogue) -> None:
    machine = Machine("s1", Room(4, 8000), Room(4, 8000))
    place = place_of("htcondor", Outlook(Pool((machine,))), "alice", ALICE.groups)
    alice = Person("alice", ALICE.groups, {"htcondor": place})
    with pytest.raises(Refusal, match="partition main asked; htcondor has none") as caught:
        ask(catalogue, alice, partition="main", account="atlas")
    assert "account atlas asked; you are in cms" in str(caught.value)
    with pytest.raises(Refusal, match="GPUs 1 asked; htcondor has none on a machine"):
        ask(catalogue, alice, gpus="1")
    assert ask(catalogue, alice, account="cms").account == "cms"


def test_every_error_of_a_catalogue_is_told(tmp_path: Path) -> None:
    """A broken catalogue is refused with each of its errors."""
    broken = tmp_path / "catalogue.yaml"
    broken.write_text("environments: []\nclasses: [{name: a}]\ncolour: red\n")
    with pytest.raises(ValueError, match="line 3: colour") as caught:
        load(broken)
    assert "line 1: environments" in str(caught.value)
    assert "line 2: classes.0.cores" in str(caught.value)


def test_the_form_offers_only_what_is_open(catalogue: Catalogue) -> None:
    """The page holds a choice for each backend and class, and reads back to options."""
    page = form.render(catalogue, backends=("htcondor", "local"), person=ALICE)
    assert "htcondor/reserved" in page
    assert "local/small" in page
    assert "slurm/" not in page
    options = form.options_from_form(
        {"choice": ["slurm/small"], "gpu_kind": ["k40"], "gpu_count": ["2"], "_xsrf": ["x"]}
    )
    assert options == {"backend": "slurm", "class": "small", "gpus": "k40:2"}
    assert form.options_from_form({"gpu_kind": [""], "gpu_count": ["2"]}) == {}


def test_a_cluster_without_an_account_of_ones_own_is_not_shown(catalogue: Catalogue) -> None:
    """Slurm's choices are not for who has no association; alone, nothing is left to show."""
    pool = Pool(accounts={})
    place = place_of("slurm", Outlook(pool), "otto", frozenset(), SLURM)
    otto = Person("otto", frozenset(), {"slurm": place})
    page = form.render(catalogue, backends=("htcondor", "slurm"), person=otto)
    assert "htcondor/reserved" in page
    assert "slurm/" not in page
    with pytest.raises(Refusal, match="nothing here is open to you"):
        form.render(catalogue, backends=("slurm",), person=otto)


def test_what_would_start_now_is_the_first_that_does(catalogue: Catalogue) -> None:
    """Of the cluster's one free core, the small class gets one; nothing larger starts now."""
    found = form.would_start_now(catalogue, backends=("slurm",), person=with_slurm())
    assert found.class_name == "small"
    page = form.render(catalogue, backends=("slurm",), person=with_slurm())
    assert "would start now" in page
    assert "UTC at the latest" in page
    many = tuple(Running("n1", Room(0, 0), None, job, "alice", "normal") for job in "12")
    full = with_slurm()
    outlook = full.places["slurm"].outlook
    assert outlook is not None
    limited = Pool(
        outlook.pool.machines, outlook.pool.partitions, outlook.pool.accounts,
        {"normal": Qos("normal", jobs_a_person=2)}, many,
    )  # fmt: skip
    place = place_of("slurm", Outlook(limited), "alice", full.groups, SLURM)
    person = Person("alice", full.groups, {"slurm": place})
    with pytest.raises(Refusal, match="nothing would start now"):
        form.would_start_now(catalogue, backends=("slurm",), person=person)


def test_no_text_of_the_catalogue_ends_the_pages_script(catalogue: Catalogue) -> None:
    """A title is text, in the page and in what its script reads."""
    raw = catalogue.model_dump()
    raw["classes"][0]["title"] = "</script><script>alert(1)</script>"
    raw["environments"][0]["title"] = "<img src=x>"
    page = form.render(Catalogue.model_validate(raw), backends=("htcondor",), person=ALICE)
    assert page.count("<script") == 2
    assert "<img" not in page


def test_people_of_a_group_get_containers_and_nothing_else(catalogue: Catalogue) -> None:
    """Neither the page nor a request gives people from outside an environment of another kind."""
    visitor = Person("victor", frozenset({"tutorial", "visitors"}))
    offered = form.offer(catalogue, backends=BACKENDS, person=visitor)
    assert offered["environments"]
    assert all(e["container"] for e in offered["environments"])
    assert ask(catalogue, visitor).environment.container is not None
    with pytest.raises(
        Refusal,
        match="environment python asked; people of the group visitors may use containers only",
    ) as caught:
        ask(catalogue, visitor, environment="python")
    assert "generic-sl7" in str(caught.value)


def test_what_a_flavour_stands_in_for_is_told(catalogue: Catalogue) -> None:
    """On the page and in the offer, wherever the flavour shows."""
    page = form.render(catalogue, backends=BACKENDS, person=ALICE)
    assert "Basic interactive, CC8 (stand-in for CC8)</option>" in page
    offered = form.offer(catalogue, backends=BACKENDS, person=ALICE)["environments"]
    shown = {e["name"]: e for e in offered}
    assert shown["generic-cc8"]["stand_in_for"] == "CC8"
    assert shown["generic-cc8"]["title"].endswith("(stand-in for CC8)")
    assert shown["python"]["stand_in_for"] is None


def test_the_class_that_goes_with_an_environment(catalogue: Catalogue) -> None:
    """Is taken where none was named; a name wins."""
    gpu = ask(catalogue, environment="accel-lcape-k40")
    assert (gpu.class_.name, gpu.gpus) == ("regular", "k40:1")
    assert ask(catalogue, environment="fife-t4", **{"class": "reserved"}).class_.name == "reserved"
    with pytest.raises(Refusal, match="environment fife-t4 asked; local offers you"):
        ask(catalogue, environment="fife-t4", backend="local")


def test_a_forged_field_of_the_form_is_refused(catalogue: Catalogue) -> None:
    """A field that the page does not have reaches the check, and is refused there."""
    forged = form.options_from_form({"choice": ["slurm/small"], "exec_prefix": ["sudo"]})
    with pytest.raises(Refusal, match="exec_prefix"):
        ask(catalogue, **forged)
