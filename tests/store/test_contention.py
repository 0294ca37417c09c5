"""Eight at once on the same keys: exactly one wins each, and nothing that was written is lost."""

import os
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from threading import Barrier

import pytest

from orchestrator.store import Store, document, open_store
from tests.store.contender import COUNTER, Counter, contend_as_process, increment, win_creates

CONTENDERS = 8
ROUNDS = 15


def increments_each(store: Store) -> int:
    """A request to moto takes 7 ms, and all wait for each other there."""
    return 5 if store.url.startswith("s3:") else 40


def test_of_eight_threads_one_creates(store: Store) -> None:
    start = Barrier(CONTENDERS)

    def contend(name: str) -> list[int]:
        start.wait()
        return win_creates(store, name, ROUNDS)

    names = [f"thread {number}" for number in range(CONTENDERS)]
    with ThreadPoolExecutor(CONTENDERS) as pool:
        won = dict(zip(names, pool.map(contend, names), strict=True))
    check_winners(store, won)


def test_of_eight_processes_one_creates(shared_url: str) -> None:
    store = open_store(shared_url, os.environ)
    answers = contend_by_processes(shared_url, "create", ROUNDS)
    check_winners(store, {str(process_id): won for process_id, won in answers.items()})


def check_winners(store: Store, won: dict[str, list[int]]) -> None:
    assert sorted(number for numbers in won.values() for number in numbers) == list(range(ROUNDS))
    for name, numbers in won.items():
        for number in numbers:
            found = store.get(f"race/{number}")
            assert found is not None and found.body == name.encode(), "the winner's object is the one that stays"


def test_eight_threads_lose_no_increment(store: Store) -> None:
    document.create(store, COUNTER, Counter(), document.random_nonce)
    start = Barrier(CONTENDERS)

    def contend(_: int) -> int:
        start.wait()
        return increment(store, increments_each(store))

    with ThreadPoolExecutor(CONTENDERS) as pool:
        list(pool.map(contend, range(CONTENDERS)))
    check_count(store)


def test_eight_processes_lose_no_increment(shared_url: str) -> None:
    store = open_store(shared_url, os.environ)
    document.create(store, COUNTER, Counter(), document.random_nonce)
    answers = contend_by_processes(shared_url, "increment", increments_each(store))
    assert sum(lost for [lost] in answers.values()) > 0, "nobody was ever in another's way: no test"
    check_count(store)


def check_count(store: Store) -> None:
    counter = document.load(store, COUNTER, Counter)
    assert counter is not None
    assert counter.value.count == CONTENDERS * increments_each(store)
    assert counter.value.seq == counter.value.count + 1, "created as 1, then once for each increment"


def contend_by_processes(url: str, task: str, number: int) -> dict[int, list[int]]:
    """Start all, let them go at once, and return what each answered, by its process id.

    They come from a fork server that has imported everything, but each opens the store for itself.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(["tests.store.contender", "orchestrator.store.s3"])
    start, answers = context.Barrier(CONTENDERS), context.Queue()
    arguments = (url, dict(os.environ), task, number, start, answers)
    processes = [context.Process(target=contend_as_process, args=arguments) for _ in range(CONTENDERS)]
    try:
        for process in processes:
            process.start()
        return dict(answers.get(timeout=60) for _ in processes)
    finally:
        for process in processes:
            process.join(5)
            process.kill()
            process.join()


@pytest.mark.parametrize("directory_depth", [1, 3])
def test_creating_and_deleting_in_the_same_directory(shared_url: str, directory_depth: int) -> None:
    """A local store removes empty directories; that must not trip one who creates in them just then."""
    store = open_store(shared_url, os.environ)
    directory = "/".join("d" * directory_depth)

    def come_and_go(name: str) -> None:
        for _ in range(10 if shared_url.startswith("s3:") else 100):
            etag = store.create(f"{directory}/{name}", b"1")
            store.put(f"{directory}/{name}", b"2")
            store.replace(f"{directory}/{name}", b"3", store.put(f"{directory}/{name}", b"2"))
            store.delete(f"{directory}/{name}")
            assert etag

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(come_and_go, "abcd"))
    assert list(store.list("")) == []
