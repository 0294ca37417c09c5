"""A machine's host: told before it is started, one host a name, nothing started twice on two machines."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import UsageError
from orchestrator.fleets.local import LocalFleet, Machine
from orchestrator.fleets.pool.equipment import address_towards, default_name, equipment_of
from orchestrator.fleets.pool.host import DRAIN_WITHIN_S, END_AGAIN_S, Equipment, NameLost, PoolHost
from orchestrator.fleets.pool.joining import require_own_gpus, run_host, take_name
from orchestrator.fleets.pool.records import SILENT_AFTER_S, Given, Host, Order, Orders, Report
from orchestrator.fleets.protocol import InstanceState, LaunchError, LaunchRequest, Sighting
from orchestrator.jobs import layout
from orchestrator.jobs.pace import QUICK, THRIFTY, Pace
from orchestrator.store import document
from orchestrator.store.memory import MemoryStore
from orchestrator.store.owner import this_process
from orchestrator.store.protocol import ReplyLost, Store, StoreError
from tests.fleets.pool.reports import L4, NOW, hosted, report, request
from tests.support.interposed import InterposedStore

NAME = "digits-g1-n0-a0"


class Processes(LocalFleet):
    """A local fleet without any: what it was asked, in order, and the states that a test gives."""

    def __init__(self, root: Path) -> None:
        super().__init__("memory:", root, Machine(cores=2), os.environ)
        self.asked: list[tuple[str, str]] = []
        self.states: dict[str, InstanceState] = {}
        self.refusal = ""
        self.lives_on: set[str] = set()

    def launch_on(self, request: LaunchRequest, gpus: Sequence[int]) -> None:  # noqa: ARG002
        if self.refusal:
            raise LaunchError(self.refusal, kind="capacity")
        self.asked.append(("launch", request.instance))
        self.states[request.instance] = InstanceState.RUNNING

    def describe(self, instances: Iterable[str]) -> Mapping[str, Sighting]:
        return {name: Sighting(self.states[name], 5.0) for name in instances if name in self.states}

    def drain(self, instance: str) -> None:
        self.asked.append(("drain", instance))

    def terminate(self, instance: str) -> None:
        self.asked.append(("terminate", instance))
        self.states[instance] = InstanceState.GONE

    def is_clear(self, instance: str) -> bool:
        return instance not in self.lives_on


@dataclass
class Bench:
    """A store, a clock, and hosts."""

    directory: Path
    store: MemoryStore = field(default_factory=MemoryStore)
    now_s: float = 0.0
    nonces: Any = field(default_factory=count)
    logged: list[str] = field(default_factory=list)

    def nonce(self) -> str:
        return f"n{next(self.nonces)}"

    def host(
        self, name: str = "a", store: Store | None = None, gpus: int = 1, disk: str = "disk", pace: Pace = QUICK
    ) -> PoolHost:
        """One that has taken over from whoever had the name; machines with one disk have what the other started."""
        where = store or self.store
        owner = this_process("test")
        (self.directory / disk).mkdir(exist_ok=True)
        known = {p.name: InstanceState.RUNNING for p in self.directory.glob(f"{disk}/*")}
        local = Processes(self.directory / disk)
        local.states = known
        stands = document.load(self.store, layout.pool_machine_key(name), Report)
        return PoolHost(
            store=where,
            equipment=Equipment(name, 2, report(name, (L4,) * gpus).gpus, {}, "127.0.0.1"),
            local=local,
            life=self.nonce(),
            owner=Host(host=owner.host, pid=owner.pid, started=owner.started, label=owner.label),
            nonce=self.nonce,
            now=lambda: NOW,
            monotonic=lambda: self.now_s,
            log=self.logged.append,
            pace=pace,
            stored=stands,
        )

    def order(self, *instances: str, machine: str = "a", gpus: tuple[int, ...] = (0,)) -> None:
        """From now on these and no others are ordered."""
        stored = document.load(self.store, layout.POOL_ORDERS, Orders)
        current = {
            name: Order(machine=machine, seq=1, request=request(name), given=Given(gpus=gpus)) for name in instances
        }
        if stored is None:
            document.create(self.store, layout.POOL_ORDERS, Orders(current=current), self.nonce)
        else:
            new = stored.value.model_copy(update={"current": current})
            document.swap(self.store, layout.POOL_ORDERS, stored, new, self.nonce)

    def turn(self, *hosts: PoolHost, times: int = 2) -> float | None:
        pause_s: float | None = 0.0
        for _ in range(times):
            self.now_s += 1.1
            for host in hosts:
                pause_s = host.turn()
        return pause_s

    def report(self, name: str = "a") -> Report:
        stored = document.load(self.store, layout.pool_machine_key(name), Report)
        assert stored is not None
        return stored.value

    def state(self, instance: str = NAME, machine: str = "a") -> InstanceState | None:
        told = self.report(machine).instances.get(instance)
        return None if told is None else told.state


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def asked(host: PoolHost) -> list[tuple[str, str]]:
    assert isinstance(host.local, Processes)
    return host.local.asked


def test_what_is_ordered_here_runs_and_what_is_called_off_ends(bench: Bench) -> None:
    host = bench.host()
    bench.order(NAME, "other-g1-n0-a0")
    bench.turn(host)
    assert asked(host) == [("launch", NAME), ("launch", "other-g1-n0-a0")]
    assert bench.state() is InstanceState.RUNNING
    bench.order("other-g1-n0-a0")
    bench.turn(host)
    assert asked(host)[2:] == [("terminate", NAME)]
    assert (list(bench.report().instances), bench.report().orders_seq) == (["other-g1-n0-a0"], 2)


def test_what_an_agent_that_ended_has_left_is_removed_at_once_and_once_more_when_it_is_called_off(bench: Bench) -> None:
    """An agent that is killed together with its guard leaves its containers, and the engine may be away just then."""
    host = bench.host()
    bench.order(NAME)
    bench.turn(host)
    assert isinstance(host.local, Processes)
    host.local.states[NAME] = InstanceState.GONE
    bench.turn(host, times=3)
    assert asked(host) == [("launch", NAME), ("terminate", NAME)]
    assert bench.state() is InstanceState.GONE
    bench.order()
    bench.turn(host)
    assert asked(host)[2:] == [("terminate", NAME)]
    assert bench.report().instances == {}


def test_another_machines_orders_are_left_alone(bench: Bench) -> None:
    host = bench.host()
    bench.order(NAME, machine="b")
    bench.turn(host)
    assert asked(host) == []
    assert bench.report().instances == {}


def test_what_cannot_be_told_is_not_started_and_is_when_it_can(bench: Bench) -> None:
    """Else whoever takes the name later on another machine would start it there too."""
    host = bench.host()
    bench.turn(host)
    bench.order(NAME)

    def away(operation: str, key: str, call: Callable[[], object]) -> object:
        if operation == "replace":
            raise StoreError("away")
        return call()

    host.store = InterposedStore(bench.store, away)
    bench.turn(host, times=5)
    assert asked(host) == []
    assert bench.logged.count("the store is away, trying again: away") == 1
    host.store = bench.store
    bench.turn(host)
    assert asked(host) == [("launch", NAME)]


def test_a_report_whose_reply_is_lost_is_its_own_all_the_same(bench: Bench) -> None:
    lost: list[str] = []

    def around(operation: str, key: str, call: Callable[[], object]) -> object:
        if operation == "replace" and len(lost) < 3:
            lost.append(key)
            call()
            raise ReplyLost("the reply was lost")
        return call()

    host = bench.host(store=InterposedStore(bench.store, around))
    before = bench.turn(host, times=6)
    assert before is not None
    assert len(lost) == 3
    assert bench.report().life == host.life


def test_of_two_hosts_of_one_name_the_one_that_was_followed_gives_way(bench: Bench) -> None:
    first = bench.host()
    bench.turn(first)
    second = bench.host()
    bench.turn(second)
    with pytest.raises(NameLost, match="give each machine a name of its own"):
        bench.turn(first)
    bench.turn(second)
    assert bench.report().life == second.life


def test_the_next_host_on_the_same_machine_adopts_what_runs(bench: Bench) -> None:
    first = bench.host()
    bench.order(NAME)
    bench.turn(first)
    (bench.directory / "disk" / NAME).mkdir(parents=True)
    second = bench.host()
    bench.turn(second)
    assert asked(second) == []
    assert bench.state() is InstanceState.RUNNING


def test_what_it_adopts_is_ended_by_no_orders_that_it_could_not_read(bench: Bench) -> None:
    first = bench.host()
    bench.order(NAME)
    bench.turn(first)
    (bench.directory / "disk" / NAME).mkdir(parents=True)
    failed: list[str] = []

    def away(operation: str, key: str, call: Callable[[], object]) -> object:
        if key == layout.POOL_ORDERS and len(failed) < 3:
            failed.append(key)
            raise StoreError("away")
        return call()

    second = bench.host(store=InterposedStore(bench.store, away), pace=THRIFTY)
    bench.turn(second, times=6)
    assert (len(failed), asked(second)) == (3, [])
    assert bench.state() is InstanceState.RUNNING
    assert bench.report().life == second.life


def test_what_cannot_be_killed_keeps_its_place_until_it_has_ended(bench: Bench) -> None:
    host = bench.host()
    assert isinstance(host.local, Processes)
    bench.order(NAME)
    bench.turn(host)
    host.local.lives_on = {NAME}
    bench.order()
    bench.turn(host, times=5)
    assert asked(host) == [("launch", NAME), ("terminate", NAME)]
    assert (bench.state(), bench.report().runs(NAME)) == (InstanceState.RUNNING, True)
    assert sum("cannot be killed" in line for line in bench.logged) == 1
    host.local.lives_on.clear()
    bench.now_s += END_AGAIN_S
    bench.turn(host)
    assert bench.report().instances == {}


def test_who_leaves_does_not_wait_for_ever_for_what_cannot_be_killed(bench: Bench) -> None:
    host = bench.host()
    assert isinstance(host.local, Processes)
    bench.order(NAME)
    bench.turn(host)
    host.local.lives_on = {NAME}
    host.leave()
    bench.now_s += DRAIN_WITHIN_S
    assert bench.turn(host) is not None
    bench.now_s += END_AGAIN_S
    assert bench.turn(host, times=1) is None
    assert bench.report().state == "gone"


def test_what_ran_on_another_machine_of_the_name_is_gone_and_not_started_again(bench: Bench) -> None:
    first = bench.host()
    bench.order(NAME)
    bench.turn(first)
    second = bench.host(disk="another")
    bench.turn(second)
    assert asked(second) == []
    assert bench.state() is InstanceState.GONE
    assert "not on this machine" in bench.report().instances[NAME].why


def test_what_cannot_be_started_is_told_with_its_reason(bench: Bench) -> None:
    host = bench.host()
    assert isinstance(host.local, Processes)
    host.local.refusal = "no space left on device"
    bench.order(NAME)
    bench.turn(host)
    assert (bench.state(), bench.report().instances[NAME].why) == (InstanceState.GONE, "no space left on device")
    bench.order("other-g1-n0-a0", gpus=(0, 1))
    bench.turn(host)
    assert bench.report().instances["other-g1-n0-a0"].why == "a has no GPU 1 any more"


def test_who_leaves_lets_agents_drain_takes_no_order_and_is_gone_when_they_are(bench: Bench) -> None:
    host = bench.host()
    bench.order(NAME)
    bench.turn(host)
    host.leave()
    bench.order(NAME, "other-g1-n0-a0")
    assert bench.turn(host) is not None
    assert asked(host) == [("launch", NAME), ("drain", NAME)]
    assert (bench.report().state, bench.state("other-g1-n0-a0")) == ("leaving", InstanceState.GONE)
    assert isinstance(host.local, Processes)
    host.local.states[NAME] = InstanceState.GONE
    assert bench.turn(host, times=1) is None
    assert (bench.report().state, bench.state()) == ("gone", InstanceState.GONE)


def test_an_agent_that_does_not_end_is_ended(bench: Bench) -> None:
    host = bench.host()
    bench.order(NAME)
    bench.turn(host)
    host.leave()
    bench.now_s += DRAIN_WITHIN_S
    assert bench.turn(host) is None
    assert asked(host)[-1] == ("terminate", NAME)


def test_who_leaves_while_the_store_is_away_does_not_wait_for_ever(bench: Bench) -> None:
    def away(operation: str, key: str, call: Callable[[], object]) -> object:
        raise StoreError("away")

    host = bench.host()
    bench.turn(host)
    host.store = InterposedStore(bench.store, away)
    host.leave()
    pauses = [bench.turn(host, times=1) for _ in range(20)]
    assert pauses[0] is not None
    assert pauses[-1] is None


# --- taking a name --------------------------------------------------------------------------------------------------


def take(bench: Bench, meanwhile: Callable[[], object] = lambda: None, here: str | None = None) -> object:
    def sleep(seconds: float) -> None:
        bench.now_s += seconds
        meanwhile()

    return take_name(
        bench.store,
        "a",
        monotonic=lambda: bench.now_s,
        sleep=sleep,
        log=bench.logged.append,
        patience_s=SILENT_AFTER_S,
        here=here,
    )


def put(bench: Bench, known: Report) -> None:
    new = known.model_copy(update={"nonce": bench.nonce()})
    bench.store.put(layout.pool_machine_key("a"), new.model_dump_json().encode())


def test_a_name_that_nobody_had_or_that_was_given_back_is_free_at_once(bench: Bench) -> None:
    assert take(bench) is None
    put(bench, report("a", state="gone"))
    assert take(bench) is not None
    assert bench.now_s == 0


def test_a_host_of_this_machine_is_known_to_live_or_to_be_dead(bench: Bench) -> None:
    here = this_process("me@here")
    alive = Host(host=here.host, pid=here.pid, started=here.started, label=here.label)
    put(bench, report("a", host=alive))
    with pytest.raises(UsageError, match=f"as a already \\(me@here, process {here.pid}\\)"):
        take(bench)
    put(bench, report("a", host=alive.model_copy(update={"started": here.started - 100})))
    assert take(bench) is not None
    assert bench.now_s == 0


def test_of_a_host_elsewhere_its_next_word_is_waited_for(bench: Bench) -> None:
    put(bench, report("a"))

    def speaks() -> None:
        if bench.now_s > 5:
            put(bench, report("a", count=2))

    with pytest.raises(UsageError, match="join under another name with --name"):
        take(bench, speaks)
    assert bench.now_s < SILENT_AFTER_S
    assert take(bench) is not None
    assert len(bench.logged) == 2


def test_a_clone_of_this_machine_is_waited_for_and_one_that_was_started_again_not_for_long(bench: Bench) -> None:
    before = Host(host="machine:boot-1:1", pid=1, started=1.0, label="me@here")
    put(bench, report("a", host=before))

    def speaks() -> None:
        if bench.now_s > 5:
            put(bench, report("a", host=before, count=2))

    with pytest.raises(UsageError, match="join under another name with --name"):
        take(bench, speaks, here="machine:boot-2:1")
    began_s = bench.now_s
    assert take(bench, here="machine:boot-2:1") is not None
    assert 10 < bench.now_s - began_s < SILENT_AFTER_S / 2


def test_a_gpu_is_given_under_one_name_only(bench: Bench) -> None:
    here = this_process("me@here")
    lives = Host(host=here.host, pid=here.pid, started=here.started, label=here.label)
    bench.store.put(f"{layout.POOL_MACHINES}later.json", b"{}")
    put(bench, report("a", (L4, L4), host=lives))
    one = Equipment("b", 2, report("b", (L4,)).gpus, {}, "127.0.0.1")
    with pytest.raises(UsageError, match=f"a gives GPU 0 of this machine already \\(me@here, process {here.pid}\\)"):
        require_own_gpus(bench.store, one)
    require_own_gpus(bench.store, replace(one, name="a"))
    require_own_gpus(bench.store, replace(one, gpus=()))
    for other in (report("a", (L4,), host=lives, state="gone"), report("a", (L4,))):
        put(bench, other)
        require_own_gpus(bench.store, one)


# --- what a machine has ---------------------------------------------------------------------------------------------


def equipment(**changes: Any) -> Equipment:
    given: dict[str, Any] = {"name": None, "cores": None, "gpus": "", "labels": (), "address": None}
    return equipment_of(**{**given, "store_url": "file:///s", "environ": {"CUDA_VISIBLE_DEVICES": ""}, **changes})


def test_a_machine_gives_what_it_has_or_less() -> None:
    cores = len(os.sched_getaffinity(0))
    assert equipment(labels=("site=lab",)) == Equipment(
        default_name(os.uname().nodename), cores, (), {"site": "lab"}, "127.0.0.1"
    )
    assert replace(equipment(), cores=1) == equipment(cores=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cores": 10_000}, "--cores: 10000 are more than the"),
        ({"gpus": "0"}, "there is no GPU 0; the driver shows none"),
        ({"gpus": "x"}, "'x' is neither all nor a list"),
        ({"labels": ("site",)}, "'site' is no label: write one such as site=lab"),
        ({"address": "192.0.2.1"}, "192.0.2.1 is no IPv4 address of this machine"),
        ({"address": "host"}, "host is no IPv4 address; write one such as"),
        ({"address": "127.1"}, r"127\.1 is no IPv4 address; write one such as"),
        ({"address": "0.0.0.0"}, r"by 0\.0\.0\.0 no other machine reaches this one"),
        ({"name": "any"}, "a machine cannot be called 'any'"),
    ],
)
def test_what_a_machine_does_not_have_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        equipment(**changes)


def test_a_driver_that_does_not_answer_makes_no_machine_without_gpus(tmp_path: Path) -> None:
    if Machine.this({}).gpus:
        pytest.skip("the driver of this machine answers")
    with pytest.raises(UsageError, match=r"has an NVIDIA driver, which does not answer .* by --gpus ''"):
        equipment(gpus="all", driver=(tmp_path,), environ={})
    assert equipment(gpus="all", driver=(tmp_path / "none",), environ={}).gpus == ()
    assert equipment(driver=(tmp_path,), environ={}).gpus == ()
    assert equipment(gpus="all", driver=(tmp_path,)).gpus == (), "where they are hidden on purpose"


def test_a_name_that_cannot_stand_in_a_key_is_refused() -> None:
    with pytest.raises(UsageError, match=r"'a\.b' is no name of a machine"):
        layout.pool_machine_key("a.b")
    assert default_name("gpu_box-1.lab.example") == "gpu-box-1"


def test_a_machine_is_reached_by_the_address_by_which_it_reaches_the_store() -> None:
    assert address_towards("s3://b", {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:8333"}) == "127.0.0.1"
    assert address_towards("s3://b", {"AWS_ENDPOINT_URL_S3": "http://no host:x"}) == "127.0.0.1"
    assert address_towards("file:///mnt/share", {}) == "127.0.0.1"


def test_a_machine_without_a_place_for_its_instances_does_not_join(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with pytest.raises(UsageError, match=r"cannot have their directories in .*: set XDG_STATE_HOME"):
        run_host(bench.store, equipment(), {}, label="test", log=lambda line: None)


def test_states_of_instances_survive_a_report() -> None:
    told = report("a", instances={NAME: hosted(gpus=(0,))})
    assert Report.model_validate_json(told.model_dump_json()) == told
