"""The ranks of a generation in containers: how they begin, are told to end, and end. A real engine, a small trainer."""

import json
import os
import pwd
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.agent.launcher import Program
from tests.containers.contained import FOR_EVER, Contained
from tests.support.docker_engine import Engine
from tests.support.waiting import wait_until

pytestmark = pytest.mark.requires("docker")


def test_they_finish_and_nothing_is_left(contain: Callable[..., Contained]) -> None:
    contained = contain()
    wait_until(lambda: contained.workers.warm, "the image is there")
    contained.start({"steps": 30, "step_s": 0.1}, ranks=2)
    ended = contained.wait()
    assert (ended.outcome, ended.code) == ("finished", 0), contained.told()
    assert "rank 0 from step 0" in contained.printed(0)
    assert "rank 1 from step 0" in contained.printed(1)
    assert [checkpoint.final for checkpoint in contained.run.whole_checkpoints()][-1]
    contained.end()
    assert contained.workers.gone()


def test_each_rank_has_torchruns_environment_and_no_more_than_it_is_given(
    contain: Callable[..., Contained], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    proxies = {"default": {"httpProxy": "http://me:secret@proxy:3128"}}
    (tmp_path / "config.json").write_text(json.dumps({"proxies": proxies}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    contained = contain()
    contained.start({"steps": 30, "step_s": 0.1}, ranks=2, env={"OMP_PROC_BIND": "true"})
    assert contained.wait().outcome == "finished", contained.told()
    for rank in (0, 1):
        seen = contained.environ(rank)
        assert seen["RANK"] == seen["LOCAL_RANK"] == str(rank)
        assert seen["WORLD_SIZE"] == seen["LOCAL_WORLD_SIZE"] == "2"
        assert seen["ELASTIC_RENDEZVOUS"] == "file:///elastic-run/rendezvous-ranks"
        assert seen["OMP_PROC_BIND"] == "true"
        assert not [value for value in seen.values() if "secret" in value]
        assert not [name for name in seen if name.startswith("AWS_") or name in ("ELASTIC_STORE", "DOCKER_HOST")]


def test_what_lies_in_a_home_directory_can_be_reached(docker_engine: Engine) -> None:
    """As of root, whose own is closed to ranks in most images: the run directory is there by default."""
    sees = "import json, os, sys; print(os.listdir(json.load(open(sys.argv[1]))['data_dir']))"
    with tempfile.TemporaryDirectory(dir=pwd.getpwuid(os.geteuid()).pw_dir, prefix=".elastic-test-") as home:
        data = Path(home) / "data"
        data.mkdir()
        (data / "image.png").touch()
        Path(home).chmod(0o700 if os.geteuid() else 0o755)
        contained = Contained(docker_engine, Path(home), program=Program(("-c", sees, "{config}"), "python3"))
        try:
            contained.start({"data_dir": str(data)})
            assert contained.wait().outcome == "finished", contained.printed(0)
            assert contained.printed(0) == "['image.png']\n"
        finally:
            contained.close()


def test_drain_has_every_rank_checkpoint_and_end(contain: Callable[..., Contained]) -> None:
    contained = contain()
    contained.start(FOR_EVER, ranks=2)
    contained.wait_for_steps()
    ended = contained.wait(contained.workers.ask_to_drain)
    assert (ended.outcome, ended.code) == ("drained", 75), contained.told()
    last = contained.run.whole_checkpoints()[-1]
    assert json.loads((last.path / "state.json").read_text())["step"] == last.step


def test_the_first_rank_that_failed_by_itself_is_told(contain: Callable[..., Contained]) -> None:
    contained = contain()
    contained.start({**FOR_EVER, "fail_at": 5}, ranks=2)
    ended = contained.wait()
    assert ended.outcome == "failed"
    assert "exited with 3: out of luck" in ended.message


def test_a_rank_killed_by_somebody_is_told_and_the_others_are_ended(contain: Callable[..., Contained]) -> None:
    contained = contain()
    contained.start(FOR_EVER, ranks=2)
    contained.wait_for_steps()
    wait_until(lambda: len(contained.workers.pids) == 2, "both are there")
    contained.client.api.kill(contained.rows()[1]["Id"])
    ended = contained.wait()
    assert (ended.outcome, ended.message.partition(":")[0]) == ("failed", "rank 1 was killed by SIGKILL")


def test_a_rank_that_needs_more_than_its_memory_is_told_of_the_limit(contain: Callable[..., Contained]) -> None:
    contained = contain()
    contained.start({**FOR_EVER, "eat": 4 * 1024**2}, memory_bytes=96 * 1024**2)
    ended = contained.wait()
    assert ended.outcome == "failed"
    assert "it used its 96MiB of memory; raise resources.memory" in ended.message


def test_hardening(contain: Callable[..., Contained], tmp_path: Path) -> None:
    images = tmp_path / "my images"
    images.mkdir()
    contained = contain()
    contained.start(
        {**FOR_EVER, "folders": {"labelled": str(images), "test": "s3://bucket/x"}, "data_dir": str(tmp_path / "none")},
        ranks=2,
        memory_bytes=512 * 1024**2,
        shared_memory_bytes=128 * 1024**2,
    )
    contained.wait_for_steps()
    wait_until(lambda: len(contained.rows()) == 2, "both are there")
    first, second = contained.inspected()
    for each in (first, second):
        host = each["HostConfig"]
        assert host["ReadonlyRootfs"] and not host["Privileged"]
        assert host["CapDrop"] == ["ALL"] and not host["CapAdd"]
        assert host["SecurityOpt"] == ["no-new-privileges"]
        assert host["PidsLimit"] and host["Memory"] == host["MemorySwap"] == 512 * 1024**2
        assert set(host["Tmpfs"]) == {"/tmp"}
        assert each["Config"]["User"] not in ("", "0", "0:0", "root")
        seen = {(mount["Source"], mount["RW"]) for mount in each["Mounts"] if mount["Type"] == "bind"}
        assert seen == {(str(contained.run.path), True), (str(images), False)}
    assert first["HostConfig"]["NetworkMode"] == "none"
    assert first["HostConfig"]["ShmSize"] == 128 * 1024**2
    assert second["HostConfig"]["NetworkMode"] == second["HostConfig"]["IpcMode"] == f"container:{first['Id']}"
