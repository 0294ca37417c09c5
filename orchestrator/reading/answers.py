"""Questions that a person may have of a job, with their answers."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """What a person may ask, and how it is."""

    question: str
    answer: str
