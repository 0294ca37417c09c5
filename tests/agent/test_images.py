"""Images from a bucket: brought once, gone on with after an interruption, refused with a sentence; on a real server."""

import os
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest

from orchestrator.agent import images
from orchestrator.agent.equipment import Asker
from orchestrator.agent.images import BadFolder, Bringing, Interrupted, Source, open_s3
from orchestrator.jobs.instances import Heartbeat
from orchestrator.store.protocol import Entry, NotAllowed, StoreDenied, StoreError, StoreUnreachable
from tests.agent.real_agent import ENDS, Instance
from tests.agent.virtual_machine import VirtualMachine
from tests.support.moto_server import make_bucket
from tests.support.moto_server import moto_server as moto_server  # noqa: PLC0414 - the fixture

IMAGES = {"cat/1.png": b"one", "cat/zwei & drei (2).png": b"two", "dog/größer/3.png": b"three"}


@pytest.fixture(scope="module")
def bucket(moto_server: str) -> str:
    make_bucket("elastic-images")
    return "elastic-images"


@pytest.fixture
def url(bucket: str) -> str:
    """A prefix of its own with three images, a mark of a directory, and a prefix beside it with almost its name."""
    prefix = secrets.token_hex(6)
    put(f"s3://{bucket}/{prefix}", IMAGES | {"cat/": b""})
    put(f"s3://{bucket}/{prefix}-other", {"cat/9.png": b"nine"})
    return f"s3://{bucket}/{prefix}"


def put(url: str, objects: dict[str, bytes]) -> str:
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    for key, body in objects.items():
        boto3.client("s3").put_object(Bucket=bucket, Key=f"{prefix}/{key}", Body=body)
    return url


class Counting:
    """A source that notes what is fetched, and fails or ends when asked to."""

    def __init__(self, source: Source, fetched: list[str], fail_after: int = 10**9) -> None:
        self._source, self._fetched, self._fail_after = source, fetched, fail_after
        self._turn = threading.Lock()

    @property
    def url(self) -> str:
        return self._source.url

    def list(self) -> Iterator[Entry]:
        self._fetched.append("listing")
        return self._source.list()

    def fetch(self, entry: Entry, path: Path) -> None:
        with self._turn:
            if sum(key != "listing" for key in self._fetched) >= self._fail_after:
                raise StoreError("the network is away")
            self._source.fetch(entry, path)
            self._fetched.append(entry.key)


class Machine:
    """One machine's cache, and what was said and fetched on it."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self.said: list[str] = []
        self.told: list[str] = []
        self.fetched: list[str] = []
        self.ending = threading.Event()

    def bring(self, url: str, job: str = "digits", fail_after: int = 10**9) -> Path:
        bringing = Bringing(
            self.cache,
            Asker(job, self.said.append, self.told.append, self.ending),
            lambda url: Counting(open_s3(url), self.fetched, fail_after),
        )
        config: dict[str, Any] = {"seed": 1, "folders": {"labelled": url, "test": "/data/test", "unlabelled": None}}
        localized = bringing.localized(config)
        assert localized["seed"] == 1
        assert localized["folders"]["test"] == "/data/test"
        return Path(localized["folders"]["labelled"])


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "cache")


def content(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()
    }


def test_what_lies_under_the_prefix_lies_under_the_directory(machine: Machine, url: str) -> None:
    directory = machine.bring(url)

    assert content(directory) == IMAGES
    assert machine.told == [f"bringing 3 files (0.0 MB) from {url}"]
    assert f"bringing 3 of 3 files from {url}" in machine.said
    assert machine.said[-1] == ""


def test_a_config_without_buckets_is_passed_on(machine: Machine) -> None:
    assert machine.bring("/data/train") == Path("/data/train")
    assert not machine.cache.exists()


def test_the_next_generation_asks_for_nothing(machine: Machine, url: str) -> None:
    directory = machine.bring(url)
    machine.fetched.clear()

    assert machine.bring(url) == directory
    assert machine.fetched == []


def test_another_job_looks_and_fetches_nothing(machine: Machine, url: str) -> None:
    directory = machine.bring(f"{url}/")
    machine.fetched.clear()

    assert machine.bring(url, job="other") == directory
    assert machine.fetched == ["listing"]


def test_after_a_failure_it_goes_on_where_it_was(machine: Machine, url: str) -> None:
    with pytest.raises(StoreError, match="the network is away"):
        machine.bring(url, fail_after=2)
    first = [key for key in machine.fetched if key != "listing"]
    machine.fetched.clear()

    assert content(machine.bring(url)) == IMAGES
    assert len(first) == 2
    assert machine.fetched == ["listing", *(IMAGES.keys() - set(first))]


def test_what_has_changed_is_fetched_and_running_jobs_keep_what_they_had(machine: Machine, url: str) -> None:
    before = machine.bring(url)
    put(url, {"cat/1.png": b"ONE", "dog/4.png": b"four"})
    machine.fetched.clear()
    after = machine.bring(url, job="other")

    assert sorted(machine.fetched) == ["cat/1.png", "dog/4.png", "listing"]
    assert content(after) == IMAGES | {"cat/1.png": b"ONE", "dog/4.png": b"four"}
    assert content(before) == IMAGES
    assert machine.bring(url) == before


def test_what_was_brought_before_the_prefix_changed_is_not_brought_again(machine: Machine, url: str) -> None:
    with pytest.raises(StoreError, match="the network is away"):
        machine.bring(url, fail_after=2)
    first = {key for key in machine.fetched if key != "listing"}
    put(url, {"dog/4.png": b"four"})
    machine.fetched.clear()

    assert content(machine.bring(url)) == IMAGES | {"dog/4.png": b"four"}
    assert set(machine.fetched) == {"listing", "dog/4.png"} | (IMAGES.keys() - first)


def test_a_file_that_lost_its_end_is_fetched_again(machine: Machine, url: str) -> None:
    """As a power failure may leave it: the name is there, the bytes are not."""
    with pytest.raises(StoreError, match="the network is away"):
        machine.bring(url, fail_after=2)
    for path in machine.cache.rglob("*.png"):
        path.write_bytes(b"")

    assert content(machine.bring(url)) == IMAGES


def test_a_listing_that_lost_its_end_is_made_again(machine: Machine, url: str) -> None:
    directory = machine.bring(url)
    for manifest in machine.cache.glob("*/*.json"):
        manifest.write_text("")
    (directory / "cat/1.png").write_bytes(b"")
    machine.fetched.clear()

    assert content(machine.bring(url)) == IMAGES
    assert machine.fetched == ["listing", "cat/1.png"]


def test_files_are_copied_where_they_cannot_be_linked(
    machine: Machine, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_older: Path, _path: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    machine.bring(url)
    put(url, {"dog/4.png": b"four"})
    machine.fetched.clear()
    monkeypatch.setattr(os, "link", refused)

    assert content(machine.bring(url, job="other")) == IMAGES | {"dog/4.png": b"four"}
    assert sorted(machine.fetched) == ["dog/4.png", "listing"]


def test_a_name_as_long_as_a_file_system_takes_is_no_hindrance(machine: Machine, url: str) -> None:
    longest = {f"cat/{'x' * 251}.png": b"long", f"cat/{'y' * 240}.png": b"long too"}
    put(url, longest)

    assert content(machine.bring(url)) == IMAGES | longest


def test_two_at_once_fetch_each_file_once(machine: Machine, url: str) -> None:
    threads = [threading.Thread(target=machine.bring, args=(url, f"job-{i}")) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert sorted(key for key in machine.fetched if key != "listing") == sorted(IMAGES)


def test_an_object_that_changes_under_the_hand_is_noticed(url: str, tmp_path: Path) -> None:
    source = open_s3(url)
    entry = next(source.list())
    put(url, {entry.key: b"another"})

    with pytest.raises(StoreError, match="was changed or removed while it was being fetched"):
        source.fetch(entry, tmp_path / "image")
    assert list(tmp_path.iterdir()) == []


def test_a_large_object_comes_in_parts(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.store.s3_download.PART_BYTES", 2)
    source = open_s3(url)
    for entry in source.list():
        source.fetch(entry, tmp_path / entry.key)

    assert content(tmp_path) == IMAGES


def test_a_large_object_that_changes_under_the_hand_never_appears(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.store.s3_download.PART_BYTES", 2)
    source = open_s3(url)
    entry = next(source.list())
    put(url, {entry.key: b"of another size"})
    appeared: list[str] = []
    replace = os.replace

    def watched(source: Path, target: Path) -> None:
        appeared.append(target.name)
        replace(source, target)

    monkeypatch.setattr(os, "replace", watched)

    with pytest.raises(StoreError, match="was changed or removed while it was being fetched"):
        source.fetch(entry, tmp_path / "image")
    assert "image" not in appeared
    assert list(tmp_path.iterdir()) == []


def test_whoever_has_to_end_ends(machine: Machine, url: str) -> None:
    machine.ending.set()

    with pytest.raises(Interrupted):
        machine.bring(url)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda url: f"{url}/nothing", "training.folders.labelled: there is nothing under s3://elastic-images/"),
        (lambda _: "s3://no-such-bucket/a", "training.folders.labelled: s3://no-such-bucket/a: There is no bucket"),
        (lambda url: put(url, {"../up.png": b"x"}), "cannot be a file here: give it another name"),
        (lambda url: put(url, {"cat": b"x"}), "'cat' under .* is an object and a directory of others"),
    ],
    ids=["nothing there", "no such bucket", "a name that leads away", "a file that is a directory"],
)
def test_what_cannot_be_had_is_refused(machine: Machine, url: str, spoil: Callable[[str], str], message: str) -> None:
    with pytest.raises(BadFolder, match=message):
        machine.bring(spoil(url))


def test_settings_that_no_client_can_be_made_of_are_refused(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(BadFolder, match=r"training\.folders\.labelled: .*nobody.*Check AWS_PROFILE"):
        machine.bring("s3://elastic-images/a")


def test_what_may_not_be_read_is_refused_and_what_may_pass_is_not(machine: Machine, tmp_path: Path) -> None:
    class Broken(Counting):
        def list(self) -> Iterator[Entry]:
            raise error

    errors = (NotAllowed("needs s3:ListBucket"), StoreDenied("have expired"), StoreUnreachable("it does not answer"))
    for error in errors:
        asker = Asker("job", machine.said.append, machine.told.append, machine.ending)
        bringing = Bringing(tmp_path, asker, lambda url: Broken(open_s3(url), []))
        with pytest.raises(BadFolder if isinstance(error, NotAllowed) else type(error), match=str(error)):
            bringing.localized({"folders": {"labelled": "s3://a-bucket/a", "test": "b"}})


def test_too_little_space_is_told_before(machine: Machine, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "SPARE_BYTES", 10**18)

    with pytest.raises(StoreError, match=r"3 files need 1,000,000,000.0 GB on the disk of .*, which has .* GB free"):
        machine.bring(url)
    assert machine.fetched == ["listing"]


def exited(beat: Heartbeat) -> bool:
    return beat.exit is not None


def test_an_agent_brings_them_and_its_trainer_reads_a_directory(instance: Instance, url: str) -> None:
    instance.start()
    instance.order("run", ENDS | {"folders": {"labelled": url, "test": url, "unlabelled": None}})
    beat = instance.wait(exited, "it has ended")

    assert beat.exit is not None
    assert beat.exit.outcome == "finished", beat.exit
    assert [notice.message for notice in beat.notices] == [f"bringing 3 files (0.0 MB) from {url}"]
    cache = Path(os.environ["XDG_CACHE_HOME"]) / "elastic" / "images"
    config = next(instance.work_dir.glob("run-g*/config.json")).read_text()
    assert str(cache) in config
    assert "s3://" not in config


def test_an_agent_refuses_what_cannot_be_had(instance: Instance, url: str) -> None:
    instance.start()
    instance.order("run", ENDS | {"folders": {"labelled": f"{url}/nothing", "test": url}})
    beat = instance.wait(exited, "it has ended")

    assert beat.exit is not None
    assert (beat.exit.outcome, beat.exit.code) == ("refused", 2)
    assert beat.exit.message.startswith("training.folders.labelled: there is nothing under s3://")


def test_what_may_pass_is_waited_for_and_told_once(
    instance: Instance, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")  # nobody answers
    instance.start()
    instance.order("run", ENDS | {"folders": {"labelled": url, "test": url}})
    beat = instance.wait(lambda beat: beat.complaint and beat.notices, "it complains")

    assert beat.exit is None
    assert beat.state == "restoring"
    assert beat.complaint.startswith("the images cannot be fetched yet, trying again: ")
    assert "does not answer" in beat.complaint
    assert [notice.kind for notice in beat.notices] == ["note"]


def test_a_fault_that_nobody_thought_of_has_its_own_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slips(_self: Bringing, _training: Mapping[str, Any]) -> dict[str, Any]:
        raise ZeroDivisionError("a slip")

    monkeypatch.setattr(Bringing, "localized", slips)
    agent = VirtualMachine(tmp_path)
    agent.assign()
    assert agent.live(10)
    assert agent.beat.exit is not None
    assert (agent.beat.exit.outcome, agent.beat.exit.code) == ("failed", 1)
    assert agent.beat.exit.message.startswith("the images could not be fetched (ZeroDivisionError: a slip): see agent")


def test_an_order_that_has_trained_waits_for_images_that_are_gone(instance: Instance, url: str) -> None:
    instance.start()
    instance.order("run", {**ENDS, "steps": 10**6})
    instance.wait_for_commit()
    instance.order("run", ENDS | {"folders": {"labelled": f"{url}/nothing", "test": url}}, generation=2)
    beat = instance.wait(lambda beat: beat.generation == 2 and beat.complaint, "it complains")

    assert beat.exit is None
    assert "there is nothing under s3://" in beat.complaint
