"""Which environment variables are taken for secrets: the same in job.yaml and in what workers inherit."""

import pytest

from orchestrator.spec.names import looks_secret


@pytest.mark.parametrize(
    "name",
    [
        "TOKEN", "HF_TOKEN", "NPMTOKEN", "TOKEN_FILE", "AWS_SESSION_TOKEN", "github_token",
        "SECRET", "MY_SECRETS", "CLIENT_SECRET", "SECRET_KEY",
        "PASSWORD", "PGPASSWORD", "DB_PASSWORDS", "MYSQL_PASSWD", "GPG_PASSPHRASE",
        "CREDENTIAL", "GOOGLE_APPLICATION_CREDENTIALS",
        "API_KEY", "APIKEY", "OPENAI_API_KEY", "WANDB_API_KEY", "AWS_ACCESS_KEY_ID", "SSH_PRIVATE_KEY", "PRIVATE_KEYS",
    ],
)  # fmt: skip
def test_what_opens_a_door_looks_secret(name: str) -> None:
    assert looks_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        "TOKENIZERS_PARALLELISM", "MAX_TOKENS", "TOKENS_PER_BATCH", "SECRETARY", "CACHE_KEY", "KEYBOARD", "MONKEY",
        "PASS", "COMPASS", "PYTHONPATH", "HOME", "OMP_NUM_THREADS", "NCCL_DEBUG", "CUDA_VISIBLE_DEVICES", "RAPID_KEY",
    ],
)  # fmt: skip
def test_what_opens_none_does_not(name: str) -> None:
    assert not looks_secret(name)
