"""One of several contenders for the same keys: what a thread does, and what a process does."""

import os
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier

from orchestrator.store import Conflict, Store, document, open_store
from orchestrator.store.document import Document

COUNTER = "jobs/digits/counter.json"


class Counter(Document):
    """A number that every contender increments."""

    count: int = 0


def win_creates(store: Store, me: str, rounds: int) -> list[int]:
    """Try to create the same keys as everybody; return the rounds that were won."""
    won = []
    for number in range(rounds):
        try:
            store.create(f"race/{number}", me.encode())
        except Conflict:
            continue
        won.append(number)
    return won


def increment(store: Store, times: int) -> int:
    """Increment the counter so many times; return how often somebody else was first."""
    lost = 0
    for _ in range(times):
        while True:
            old = document.load(store, COUNTER, Counter)
            assert old is not None
            try:
                document.swap(store, COUNTER, old, Counter(count=old.value.count + 1), document.random_nonce)
                break
            except Conflict:
                lost += 1
    return lost


def contend_as_process(
    url: str, environ: dict[str, str], task: str, number: int, start: Barrier, answers: "Queue[tuple[int, list[int]]]"
) -> None:
    """Open the store for oneself, wait for all the others, contend, and say which rounds were won or how many lost."""
    os.environ.update(environ)
    store = open_store(url, os.environ)
    store.get(COUNTER)  # connected before the start
    start.wait(60)
    won = win_creates(store, str(os.getpid()), number) if task == "create" else [increment(store, number)]
    answers.put((os.getpid(), won))
