"""What the container of a rank is given, how an image is pulled and an end is read: by values, without an engine."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from docker.errors import ImageNotFound

from orchestrator.agent.background import Work
from orchestrator.agent.containers.ends import RankEnd, end_of, outcome
from orchestrator.agent.containers.image import ImageNotHad, ImageRefused, PullProgress, why_not
from orchestrator.agent.containers.network import Meeting
from orchestrator.agent.containers.ranks import NOBODY_UID, Crew, User, user_of_ranks
from orchestrator.agent.containers.shown import folders_of
from orchestrator.agent.containers.standing import Home, Patience
from orchestrator.agent.containers.workers import ContainerWorkers
from orchestrator.agent.launcher import TRAINER
from orchestrator.agent.run_directory import RunDirectory
from orchestrator.jobs.instances import AssignedProgram, Assignment

WORK_DIR = Path("/state/instances/store-1/digits-g3-n0-a0")


def crew(gpus: tuple[int, ...] = (), user: User = User(1000, 1000), **order: Any) -> Crew:  # noqa: B008 - frozen
    asked = {"epoch": 1, "job": "digits", "generation": 3, "action": "run", "workers": 2, "master_port": 29500, **order}
    return Crew(
        assignment=Assignment(**asked),
        run=RunDirectory.of(WORK_DIR, 3),
        program=TRAINER,
        image_id="sha256:1",
        work_dir=WORK_DIR,
        agent="agent-1",
        instance="digits-g3-n0-a0",
        user=user,
        own_address="10.0.0.7",
        gpus=gpus,
        folders=(),
    )


def test_elastics_own_trainer_is_run_by_the_images_python() -> None:
    wanted = crew().container(0, "")
    assert wanted.config["entrypoint"] == [
        *("python", "-u", "-m", "trainer", "/elastic-run/config.json", "/elastic-run")
    ]
    (run,) = wanted.host["mounts"]
    assert (run["Source"], run["Target"]) == (str(RunDirectory.of(WORK_DIR, 3).path), "/elastic-run")


def test_a_program_of_ones_own_is_run_where_it_says() -> None:
    program = AssignedProgram(command=("/app/train", "--out", "{run_dir}"), working_dir="/app")
    config = crew(program=program).container(1, "first").config
    assert config["entrypoint"] == ["/app/train", "--out", "/elastic-run"]
    assert config["working_dir"] == "/app"


def test_gpus_are_shown_to_the_container_and_counted_anew_in_it() -> None:
    wanted = crew(gpus=(2, 3)).container(1, "first")
    assert wanted.host["device_requests"] == [{"DeviceIDs": ["2", "3"], "Capabilities": [["gpu"]]}]
    assert wanted.config["environment"]["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert wanted.config["environment"]["ELASTIC_REQUIRE_CUDA"] == "1"
    assert "device_requests" not in crew().container(0, "").host


def test_ranks_are_numbered_over_all_instances() -> None:
    environ = crew(nodes=3, node_rank=2, master_address="10.0.0.5").environment(1)
    assert (environ["RANK"], environ["LOCAL_RANK"], environ["WORLD_SIZE"]) == ("5", "1", "6")
    assert (environ["NODE_RANK"], environ["LOCAL_WORLD_SIZE"]) == ("2", "2")


MEETINGS: dict[str, tuple[dict[str, Any], str, str]] = {
    "one instance": ({"nodes": 1}, "alone", "127.0.0.1"),
    "several of one machine": ({"nodes": 2, "master_address": "127.0.0.1"}, "private", "rank-0"),
    "several machines": ({"nodes": 2, "master_address": "10.0.0.5"}, "host", "10.0.0.5"),
    "several machines that are played on one": ({"nodes": 2, "instance_id": "i-1"}, "host", "127.0.0.1"),
}


@pytest.mark.parametrize("case", MEETINGS)
def test_where_ranks_meet(case: str) -> None:
    order, kind, address = MEETINGS[case]
    ranks = crew(**order)
    assert ranks.meeting.kind == kind
    assert ranks.environment(0)["MASTER_ADDR"] == address


def test_a_private_network_is_one_generations_of_one_store() -> None:
    def name(instance: str, **order: Any) -> str:
        return Meeting.of(crew(nodes=2, **order).assignment, WORK_DIR.parent.parent / instance).name

    mine = name("store-1/digits-g3-n0-a0")
    assert name("store-1/digits-g3-n1-a0", node_rank=1) == mine
    assert name("store-1/digits-g3-n0-a0", generation=4) != mine
    assert name("store-2/digits-g3-n0-a0") != mine


def test_ranks_are_the_agents_user_or_one_without_rights() -> None:
    assert user_of_ranks(1000, 100, rootless=False) == User(1000, 100)
    assert user_of_ranks(0, 0, rootless=False) == User(NOBODY_UID, NOBODY_UID)
    assert user_of_ranks(1000, 100, rootless=True) == User(0, 0), "which is the agent's user outside"


def test_user_numbers_are_the_same_inside_and_out() -> None:
    assert crew().container(0, "").host["userns_mode"] == "host"
    assert "userns_mode" not in crew(user=User(0, 0)).container(0, "").host, "without root there is no other"


def test_what_a_config_names_is_shown_and_no_more() -> None:
    config = {
        "data_dir": "/data",
        "folders": {"labelled": "/data/mine", "unlabelled": "s3://bucket/x", "test": "/images/test", "voices": "/v"},
        "model": {"weights": "/weights.pt"},
    }
    assert folders_of(config) == (Path("/data"), Path("/images/test"), Path("/v"), Path("/weights.pt"))
    assert folders_of({"model": {"weights": "imagenet"}, "data_dir": None, "folders": None}) == ()
    assert folders_of({"data_dir": "not/absolute", "folders": ["/etc"], "model": "x"}) == ()


def test_how_far_a_pull_is() -> None:
    progress = PullProgress("trainer:1")
    assert progress.take({"status": "Pulling from trainer", "id": "1"}) == "pulling trainer:1"
    downloading = {"status": "Downloading", "id": "a", "progressDetail": {"current": 512 * 1024**2, "total": 1024**3}}
    assert progress.take(downloading) == "pulling trainer:1: 50 % of 1.0 GiB"
    downloading = {"status": "Downloading", "id": "b", "progressDetail": {"current": 0, "total": 1024**3}}
    assert progress.take(downloading) == "pulling trainer:1: 25 % of 2.0 GiB"
    assert progress.take({"status": "Download complete", "id": "a"}) == "pulling trainer:1: 50 % of 2.0 GiB"
    assert progress.take({"status": "Extracting", "id": "a", "progressDetail": {"current": 1, "total": 9}}) == (
        "pulling trainer:1: 50 % of 2.0 GiB, unpacking: 5 %"
    )
    assert (
        progress.take({"status": "Pull complete", "id": "a"}) == "pulling trainer:1: 50 % of 2.0 GiB, unpacking: 50 %"
    )


def test_for_how_long_an_image_is_unpacked_where_the_engine_says_no_more() -> None:
    progress = PullProgress("trainer:1")
    unpacking = {"status": "Extracting", "id": "a", "progressDetail": {"current": 7, "units": "s"}}
    assert progress.take(unpacking) == "pulling trainer:1, unpacking for 7 s"
    progress.take({"status": "Downloading", "id": "b", "progressDetail": {"current": 1024**2, "total": 1024**2}})
    assert str(progress) == "pulling trainer:1: 100 % of 1 MiB, unpacking for 7 s"


GIB = 1024**3
MOVES: dict[str, list[dict[str, Any]]] = {
    "a slow download": [
        {"status": "Downloading", "progressDetail": {"current": done, "total": 50 * GIB}} for done in range(20)
    ],
    "unpacking in bytes": [
        {"status": "Extracting", "progressDetail": {"current": done, "total": 50 * GIB}} for done in range(20)
    ],
    "unpacking in seconds": [
        {"status": "Extracting", "progressDetail": {"current": seconds, "units": "s"}} for seconds in range(20)
    ],
}
STILL: dict[str, list[dict[str, Any]]] = {kind: 20 * events[-1:] for kind, events in MOVES.items()}


class OnePull:
    """An engine that pulls as it is told, with so many seconds before each word of it."""

    def __init__(self, events: list[dict[str, Any]], every_s: float) -> None:
        self.now_s = 0.0
        self.stuck = False
        self.api = self.images = self
        self._events, self._every_s = events, every_s
        self._is_here = False
        self.workers: ContainerWorkers | None = None

    def get(self, name: str) -> SimpleNamespace:
        if not self._is_here:
            raise ImageNotFound(name)
        return SimpleNamespace(attrs={"Id": "sha256:1", "RepoDigests": [f"{name}@sha256:1"]})

    def pull(self, *_: object, **__: object) -> Iterator[dict[str, Any]]:
        for event in self._events:
            self.now_s += self._every_s
            assert self.workers is not None
            self.stuck = self.stuck or self.workers.poll(None) is not None
            yield {**event, "id": "a"}
        self._is_here = True

    def containers(self, **_: object) -> list[object]:
        return []

    def networks(self, **_: object) -> list[object]:
        return []


class Later:
    """Work that is done when a test does it."""

    done = crashed = False

    def start(self, work: Work, name: str, *, nice: bool = False) -> "Later":  # noqa: ARG002
        self.work = work
        return self

    def wake(self) -> None:
        return


def is_taken_for_stuck(
    events: list[dict[str, Any]], every_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> bool:
    engine, later = OnePull(events, every_s), Later()
    monkeypatch.setattr("orchestrator.agent.containers.asking.connect", lambda _: engine)
    monkeypatch.setattr("orchestrator.agent.containers.workers.remove_containers", lambda *_: 0)
    engine.workers = workers = ContainerWorkers(
        "trainer:1", tmp_path / "log", Home(tmp_path, "i", "a"), {}, later, monotonic=lambda: engine.now_s
    )
    later.work()
    assert workers.image == "trainer:1@sha256:1"
    return engine.stuck


@pytest.mark.parametrize("kind", MOVES)
def test_a_pull_that_moves_however_little_is_not_stuck(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not is_taken_for_stuck(MOVES[kind], Patience().pull_s / 2, tmp_path, monkeypatch)


@pytest.mark.parametrize("kind", STILL)
def test_a_pull_that_says_the_same_again_and_again_is_stuck(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_taken_for_stuck(STILL[kind], Patience().pull_s / 2, tmp_path, monkeypatch)


PULLS: dict[str, type[Exception]] = {
    "pull access denied for trainer, repository does not exist or may require 'docker login'": ImageRefused,
    "manifest for trainer:9 not found: manifest unknown: manifest unknown": ImageRefused,
    "no matching manifest for linux/arm64/v8 in the manifest list entries": ImageRefused,
    "unauthorized: authentication required": ImageRefused,
    'Get "https://registry-1.docker.io/v2/": dial tcp: lookup registry-1.docker.io on 10.0.0.2:53: no such host': (
        ImageNotHad
    ),
    'Get "https://r.example/v2/": dial tcp 10.0.0.9:443: connect: connection refused': ImageNotHad,
    "toomanyrequests: You have reached your pull rate limit": ImageNotHad,
    "write /var/lib/docker/tmp/GetImageBlob1: no space left on device": ImageNotHad,
}


@pytest.mark.parametrize("said", PULLS)
def test_what_may_pass_is_told_from_what_will_not(said: str) -> None:
    error = why_not("trainer:9", said)
    assert type(error) is PULLS[said]
    assert "trainer:9" in str(error) and said in str(error)


def state(**more: Any) -> dict[str, Any]:
    return {"Status": "exited", "ExitCode": 0, "OOMKilled": False, "FinishedAt": "2026-11-28T17:00:00Z", **more}


ENDS: dict[str, tuple[dict[str, Any], dict[str, Any], int, str, bool]] = {
    # the engine's account, what else is known, the code, the words, whether it ended with the engine
    "finished": (state(), {}, 0, "", False),
    "a signal": (state(ExitCode=139), {}, -11, "", False),
    "out of memory": (
        state(ExitCode=137, OOMKilled=True),
        {"memory_bytes": 4 * 1024**3},
        -9,
        "was ended by the kernel: it used its 4GiB of memory; raise resources.memory",
        False,
    ),
    "a child of it was out of memory": (state(ExitCode=75, OOMKilled=True), {}, 75, "", False),
    "ended by us": (state(ExitCode=137), {"ended_by_us": True}, -15, "", False),
    "ended with the engine": (state(ExitCode=255), {"after_outage": True}, 255, "", True),
    "drained while the engine was away": (state(ExitCode=75), {"after_outage": True}, 75, "", False),
}


@pytest.mark.parametrize("case", ENDS)
def test_how_a_rank_ended(case: str) -> None:
    account, known, code, why, with_engine = ENDS[case]
    facts: dict[str, Any] = {"ended_by_us": False, "after_outage": False, "memory_bytes": None, **known}
    end = end_of(account, **facts)
    assert end is not None
    assert (end.code, end.why, end.with_engine) == (code, why, with_engine)


def test_who_runs_has_not_ended() -> None:
    assert end_of({"Status": "running"}, ended_by_us=False, after_outage=True, memory_bytes=None) is None


def test_the_first_that_failed_by_itself_is_told(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    ends = {4: RankEnd(-15, "3"), 5: RankEnd(1, "2"), 6: RankEnd(3, "1")}
    assert outcome(ends, run, 4).message == "rank 6 exited with 3"
    refused = outcome({**ends, 7: RankEnd(2, "9")}, run, 4)
    assert (refused.outcome, refused.code, refused.message) == ("refused", 2, "rank 7 exited with 2")
    assert outcome({0: RankEnd(75, "1"), 1: RankEnd(0, "2"), 2: RankEnd(-15, "3")}, run, 0).outcome == "drained"
    assert outcome({0: RankEnd(0), 1: RankEnd(0)}, run, 0).outcome == "finished"
    assert outcome({**ends, 7: RankEnd(255, "9", with_engine=True)}, run, 4).outcome == "lost"
    after_drain = outcome({0: RankEnd(75, "1"), 1: RankEnd(-9, "2", "had no memory left")}, run, 0)
    assert (after_drain.outcome, after_drain.message) == ("failed", "rank 1 had no memory left")
