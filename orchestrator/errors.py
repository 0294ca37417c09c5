"""Errors that reach a person: one sentence each that says what, where and what to do.

The command line turns each into its exit code; no other exception may reach a user.
"""

from typing import ClassVar


class ElasticError(Exception):
    """The base of all errors that are meant for a person."""

    exit_code: ClassVar[int] = 1


class UsageError(ElasticError):
    """The command or the job.yaml cannot be carried out as written."""

    exit_code: ClassVar[int] = 2


class CredentialsError(ElasticError):
    """Credentials are missing, expired or not enough."""

    exit_code: ClassVar[int] = 4
