"""What AWS would answer to a request under some policies: the part of IAM's rules that the template makes use of.

Effect, principal `*`, action and resource with `*` and `?`, and four kinds of conditions. What a policy uses beyond
that is an error here, and not guessed.
"""

import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Statement = Mapping[str, Any]


def is_denied(policy: Iterable[Statement], action: str, resource: str, context: Mapping[str, str]) -> bool:
    """Whether a statement refuses it, whatever else allows it."""
    return any(each["Effect"] == "Deny" and _is_about(each, action, resource, context) for each in policy)


def is_allowed(policy: Iterable[Statement], action: str, resource: str, context: Mapping[str, str]) -> bool:
    """Whether a statement allows it and none refuses it."""
    policy = list(policy)
    allowed = any(each["Effect"] == "Allow" and _is_about(each, action, resource, context) for each in policy)
    return allowed and not is_denied(policy, action, resource, context)


def _is_about(statement: Statement, action: str, resource: str, context: Mapping[str, str]) -> bool:
    unknown = set(statement) - {"Sid", "Effect", "Principal", "Action", "Resource", "Condition"}
    assert not unknown and statement.get("Principal", "*") == "*", f"no rule here for {statement}"
    return (
        any(_matches(pattern.lower(), action.lower()) for pattern in _several(statement["Action"]))
        and any(_matches(pattern, resource) for pattern in _several(statement["Resource"]))
        and all(
            _holds(kind, key, _several(values), context.get(key))
            for kind, keys in statement.get("Condition", {}).items()
            for key, values in keys.items()
        )
    )


def _holds(kind: str, key: str, values: Sequence[str], found: str | None) -> bool:
    match kind:
        case "Null":
            return (found is None) is (values == ["true"])
        case "Bool" | "StringEquals":
            return found in values
        case "ArnEquals":
            return found is not None and any(_matches(pattern, found) for pattern in values)
    raise AssertionError(f"no rule here for {kind} of {key}")


def _matches(pattern: str, text: str) -> bool:
    escaped = pattern.replace("[", "[[]")  # a class for fnmatch, and nothing special for IAM
    return re.match(fnmatch.translate(escaped), text) is not None


def _several(found: str | Sequence[str]) -> list[str]:
    return [found] if isinstance(found, str) else list(found)
