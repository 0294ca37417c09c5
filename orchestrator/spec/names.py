"""What names may look like: of jobs, which become parts of keys and paths, and of environment variables."""

import re

JOB_NAME_PATTERN = r"^[a-z0-9][a-z0-9-]{0,62}$"

# Words of a variable's name, apart by underscores: TOKENIZERS_PARALLELISM, MAX_TOKENS and CACHE_KEY are no secrets.
# What a word begins with does not matter, so that PGPASSWORD and NPMTOKEN are.
_SECRET_NAME = re.compile(
    r"(^|_)([a-z0-9]*(secrets?|token|passwords?|passwd|passphrase|credentials?)"
    r"|[a-z0-9]*(access|api|private|secret)_?keys?)(_|$)",
    re.IGNORECASE,
)


def is_job_name(text: str) -> bool:
    """Whether `text` may name a job."""
    return re.fullmatch(JOB_NAME_PATTERN, text) is not None


def looks_secret(name: str) -> bool:
    """Whether an environment variable of this name as a rule holds what opens a door."""
    return _SECRET_NAME.search(name) is not None
