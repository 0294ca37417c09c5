"""Who gets which machine of the pool: whole GPUs, of the kind asked for, where the least is left over."""

import pytest

from orchestrator.fleets.pool.records import Given, Order, Orders, Report
from orchestrator.fleets.pool.room import Room, find_room, why_no_room
from orchestrator.fleets.protocol import InstanceState
from tests.fleets.pool.reports import L4, RTX, hosted, report, request

LARGE, SMALL, PLAIN = report("large", (L4,) * 4), report("small", (RTX,)), report("plain", cores=8)


@pytest.mark.parametrize(
    ("instance_type", "workers", "machine", "given"),
    [
        ("any", 1, "small", Given(gpus=(0,))),  # the least is left over
        ("any", 2, "large", Given(gpus=(0, 1))),
        ("any", 8, "plain", Given(cores=8)),
        ("cpu", 1, "plain", Given(cores=1)),
        ("large", 1, "large", Given(gpus=(0,))),
        ("l4", 1, "large", Given(gpus=(0,))),
        ("NVIDIA L4", 4, "large", Given(gpus=(0, 1, 2, 3))),
        ("rtx-4090", 1, "small", Given(gpus=(0,))),
        ("site=lab", 1, "large", Given(gpus=(0,))),
    ],
)
def test_a_rung_names_a_kind_and_takes_the_tightest_room(
    instance_type: str, workers: int, machine: str, given: Given
) -> None:
    machines = [LARGE.model_copy(update={"labels": {"site": "lab"}}), SMALL, PLAIN]
    found = find_room(request(instance_type=instance_type, workers=workers), machines, Orders())
    assert found == Room(machine, given)


@pytest.mark.parametrize("instance_type", ["rtx", "4", "site=lab", "site", "small", "l4 nvidia"])
def test_what_no_machine_is_called_gets_no_room(instance_type: str) -> None:
    assert find_room(request(instance_type=instance_type), [LARGE, PLAIN], Orders()) is None
    assert "no machine of the pool is called so" in why_no_room(
        request(instance_type=instance_type), [LARGE, PLAIN], Orders(), []
    )


def ordered(machine: str, instance: str, **given: object) -> Orders:
    order = Order(machine=machine, seq=1, request=request(instance), given=Given.model_validate(given))
    return Orders(seq=1).with_order(instance, order)


def test_what_was_ordered_or_runs_is_taken_and_what_is_gone_is_free() -> None:
    two = report("two", (L4, L4))
    orders = ordered("two", "other-g1-n0-a0", gpus=(0,))
    assert find_room(request(), [two], orders) == Room("two", Given(gpus=(1,)))
    runs = two.model_copy(update={"instances": {"called-off-g1-n0-a0": hosted(gpus=(1,), job="called-off")}})
    assert find_room(request(), [runs], orders) is None
    why = why_no_room(request(), [runs], orders, [])
    assert why == (
        "1 GPU, or 1 core of a machine without GPUs, wanted, and the pool has two: 0 of 2 NVIDIA L4 free "
        "(used by called-off, other)"
    )
    gone = two.model_copy(update={"instances": {"other-g1-n0-a0": hosted(InstanceState.GONE, gpus=(0,))}})
    assert find_room(request(workers=2), [gone], orders) == Room("two", Given(gpus=(0, 1)))


def test_what_the_jobs_last_generation_holds_is_taken_only_where_nothing_is_free() -> None:
    """It ends before the new one starts; those that work on in the new one do not."""
    one, two = report("one", (L4,)), report("two", (L4,))
    orders = ordered("one", "digits-g1-n0-a0", gpus=(0,))
    new = request("digits-g2-n0-a0")
    assert find_room(new, [one, two], orders) == Room("two", Given(gpus=(0,)))
    assert find_room(new, [one], orders) == Room("one", Given(gpus=(0,)))
    assert find_room(request("digits-g2-n1-a0", count=2, beside=("digits-g1-n0-a0",)), [one], orders) is None
    assert find_room(request("other-g2-n0-a0"), [one], orders) is None


def test_a_generation_stands_together_where_it_can_and_where_its_instances_can_talk() -> None:
    first = ordered("a", "digits-g1-n0-a0", gpus=(0,))
    second = request("digits-g1-n1-a0", count=2, beside=("digits-g1-n0-a0",))
    a, b = report("a", (L4,) * 8), report("b", (L4,))
    assert find_room(second, [a, b], first) == Room("a", Given(gpus=(1,)))
    a = report("a", (L4,))
    assert find_room(second, [a, b], first) == Room("b", Given(gpus=(0,)))
    a = report("a", (L4,), address="127.0.0.1")
    assert find_room(second, [a, b], first) is None
    assert "cannot reach" in why_no_room(second, [a, b], first, [])
    b = report("b", (L4,), address="127.0.0.1", host=a.host)
    assert find_room(second, [a, b], first) == Room("b", Given(gpus=(0,))), "two hosts of one machine"


def test_an_empty_pool_says_how_to_join_it() -> None:
    assert "elastic agent --join" in why_no_room(request(), [], Orders(), [])
    assert "old-box cannot" in why_no_room(request(), [], Orders(), ["old-box"])


def test_gpus_go_first_where_both_will_do_and_a_generation_has_the_one_or_the_other() -> None:
    gpu, cpu = report("gpu", (L4,)), report("box", cores=2)
    assert find_room(request(), [cpu, gpu], Orders()) == Room("gpu", Given(gpus=(0,)))
    held = ordered("gpu", "digits-g1-n0-a0", gpus=(0,))
    assert find_room(request("digits-g2-n0-a0"), [cpu, gpu], held) == Room("gpu", Given(gpus=(0,)))
    second = request("digits-g1-n1-a0", count=2, beside=("digits-g1-n0-a0",))
    assert find_room(second, [cpu, gpu], held) is None
    assert "2 times 1 GPU, or 1 core of a machine without GPUs, wanted on a machine that has GPUs" in why_no_room(
        second, [cpu, gpu], held, []
    )


@pytest.mark.parametrize(
    ("machines", "first"),
    [
        ([report("a", (L4,))], None),
        ([report("a", (L4, L4))], Room("a", Given(gpus=(0,)))),
        ([report("a", (L4,)), report("b", (L4,))], Room("a", Given(gpus=(0,)))),
        ([report("a", (L4,)), report("b", (L4,), address="127.0.0.1")], None),
        ([report("a", (L4,)), report("box", cores=2)], Room("box", Given(cores=1))),
        ([report("a", (L4,)), report("box", cores=1)], None),
    ],
)
def test_one_is_given_no_place_where_the_others_of_its_generation_would_find_none(
    machines: list[Report], first: Room | None
) -> None:
    one = request("digits-g1-n0-a0", count=2, beside=("digits-g1-n1-a0",))
    assert find_room(one, machines, Orders()) == first
    if first is None:
        assert why_no_room(one, machines, Orders(), []).startswith("2 times 1 GPU, or 1 core")


def test_a_reason_is_not_found_in_room_that_is_not_there() -> None:
    """The other machine is out of reach and full as well."""
    full = Orders(seq=1)
    for machine, instance in (("a", "digits-g1-n0-a0"), ("b", "other-g1-n0-a0")):
        order = Order(machine=machine, seq=1, request=request(instance), given=Given(gpus=(0,)))
        full = full.with_order(instance, order)
    second = request("digits-g1-n1-a0", count=2, beside=("digits-g1-n0-a0",))
    machines = [report("a", (L4,)), report("b", (L4,), address="127.0.0.1")]
    assert "cannot reach" not in why_no_room(second, machines, full, ["c"])
    assert "nothing is heard of c" in why_no_room(second, machines, full, ["c"])
