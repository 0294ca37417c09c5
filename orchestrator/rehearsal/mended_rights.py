"""moto's IAM, made to weigh what it can: whether a user's policies allow the action.

moto 5.2.5 takes the resource of every request but to S3 for `*`, which no statement about certain resources allows, and
takes a condition for broken whose values it does not know. Here such a statement counts for its actions alone.
"""

from typing import Any

from moto.iam.access_control import IAMPolicyStatement

_element_matches = IAMPolicyStatement._check_element_matches
_UNKNOWN = "*"


def mend_rights() -> None:
    """Take the place of moto's own functions, in this process and for good."""
    for function in (_check_element_matches, _check_conditions):
        setattr(IAMPolicyStatement, function.__name__, function)


def _check_element_matches(statement: Any, element: str, value: str) -> bool:
    return (element == "Resource" and value == _UNKNOWN) or _element_matches(statement, element, value)


def _check_conditions(_statement: Any, _values: Any) -> bool:
    return True
