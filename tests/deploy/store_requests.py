"""What agents, controllers and people ask of a bucket, gathered from the real ones as they live through trouble."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from orchestrator.simulator.bucket import BucketView
from orchestrator.simulator.history import run_history
from tests.deploy.stack_template import BUCKET

_INSTANCE = re.compile(r".+-g\d+-n\d+-a\d+")
_NUMBER = re.compile(r"\d")
_HTTPS = (("aws:SecureTransport", "true"),)
_WHOLE = (*_HTTPS, ("s3:ObjectCreationOperation", "true"))


@dataclass(frozen=True)
class Request:
    """One kind of request, as IAM sees it; numbers in keys are all made 0, for they make no difference."""

    by_agent: bool
    action: str
    resource: str
    context: tuple[tuple[str, str], ...]


def requests_of(seeds: range) -> set[Request]:
    """All requests of the histories of these seeds, each once."""
    seen: set[Request] = set()
    with _noting(seen):
        for seed in seeds:
            assert run_history(seed).violation is None
    return seen


@contextmanager
def _noting(seen: set[Request]) -> Iterator[None]:
    """Note every request that goes from a process into the simulated network."""
    made: dict[str, Callable[[str], tuple[str, str, tuple[tuple[str, str], ...]]]] = {
        "get": lambda key: ("s3:GetObject", f"/{key}", _HTTPS),
        "create": lambda key: ("s3:PutObject", f"/{key}", (*_WHOLE, ("s3:if-none-match", "*"))),
        "replace": lambda key: ("s3:PutObject", f"/{key}", (*_WHOLE, ("s3:if-match", "etag"))),
        "put": lambda key: ("s3:PutObject", f"/{key}", _WHOLE),
        "delete": lambda key: ("s3:DeleteObject", f"/{key}", _HTTPS),
        "list": lambda _prefix: ("s3:ListBucket", "", _HTTPS),
        "prefixes": lambda _prefix: ("s3:ListBucket", "", _HTTPS),
        "abort_uploads": lambda _prefix: ("s3:ListBucketMultipartUploads", "", _HTTPS),
    }

    def noting(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def ask(view: BucketView, key: str, *rest: Any, **named: Any) -> Any:
            action, place, context = made[name](key)
            by_agent = _INSTANCE.fullmatch(view.process_name) is not None
            seen.add(Request(by_agent, action, f"arn:aws:s3:::{BUCKET}{_NUMBER.sub('0', place)}", context))
            return real(view, key, *rest, **named)

        return ask

    with pytest.MonkeyPatch.context() as patch:
        for name in made:
            patch.setattr(BucketView, name, noting(name, getattr(BucketView, name)))
        yield
