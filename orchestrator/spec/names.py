"""Job names: they become parts of keys, paths and instance names, so their form is narrow."""

import re

JOB_NAME_PATTERN = r"^[a-z0-9][a-z0-9-]{0,62}$"


def is_job_name(text: str) -> bool:
    """Whether `text` may name a job."""
    return re.fullmatch(JOB_NAME_PATTERN, text) is not None
