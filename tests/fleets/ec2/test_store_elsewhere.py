"""An instance whose store is at another S3 service: SSM on moto's server, the bucket on SeaweedFS with its own keys."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.fleets.ec2.user_data import user_data
from orchestrator.store.open import open_store
from orchestrator.store.s3_keys import PARAMETER, Keys
from tests.fleets.ec2.test_user_data import PLAYED, PlayedMachine, account
from tests.support.moto_ec2 import request
from tests.support.moto_server import environment, running_moto
from tests.support.s3_servers import seaweed_server, seaweed_store  # noqa: F401

pytestmark = pytest.mark.requires("seaweedfs")

NAME = "/elastic/elastic/store"
WHEEL = b"a wheel"
_OPEN = """
import os, sys
from orchestrator.store.open import open_store
print(open_store(sys.argv[1], os.environ).get(sys.argv[2]).body.decode())
"""
_PUT = """
import boto3, sys
boto3.client("ssm").put_parameter(Name=sys.argv[1], Value=sys.argv[2], Type="SecureString")
"""


@pytest.fixture
def role(seaweed_store: str) -> Iterator[dict[str, str]]:  # noqa: F811
    """The environment of an instance: credentials of its role, which the bucket does not know; the keys are in SSM."""
    keys = environment("")
    with running_moto() as url:
        own = Keys(keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"])
        role = {
            **environment(os.environ["AWS_ENDPOINT_URL_S3"]),
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "role",
            "AWS_SECRET_ACCESS_KEY": "of the role",
            "AWS_REGION": "us-east-1",
        }
        # In a process of its own, as an agent reads it: in this one other tests play AWS without a server.
        put = [sys.executable, "-c", _PUT, NAME, own.as_json()]
        subprocess.run(put, env={**away_from_aws(), **role}, check=True, timeout=120)
        yield role


def away_from_aws() -> dict[str, str]:
    """This process's environment without what leads to an AWS: other tests of the package share an account by it."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}


def test_it_fetches_elastic_by_the_stores_keys_and_not_by_its_role(
    role: dict[str, str],
    seaweed_store: str,  # noqa: F811
    tmp_path: Path,
) -> None:
    digest = hashlib.sha256(WHEEL).hexdigest()
    key = f"control/packages/{digest}/elastic-0.1.0-py3-none-any.whl"
    open_store(seaweed_store, os.environ).put(key, WHEEL)
    told = {"AWS_ENDPOINT_URL_S3": role["AWS_ENDPOINT_URL_S3"], PARAMETER: NAME}
    for number, (environ, code) in enumerate((({**told}, 0), ({**told, PARAMETER: ""}, 1))):
        known = account().model_copy(
            update={"store_url": seaweed_store, "package_key": key, "environment": environ, "region": "us-east-1"}
        )
        (tmp_path / str(number)).mkdir()
        machine = PlayedMachine(tmp_path / str(number), user_data(request(), known))
        python = tmp_path / "python"
        python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        python.chmod(0o755)
        makes = f'if [[ $1 == venv ]]; then mkdir -p "${{@: -1}}/bin" && cp {python} "${{@: -1}}/bin/python"; fi\n'
        machine.play("uv", PLAYED + makes)
        assert (machine.run(**role) != 0) == bool(code)
        fetched = machine.root / "elastic-0.1.0-py3-none-any.whl"
        assert fetched.exists() is not bool(code)
        assert (machine.root / "installed").exists() is not bool(code)


def test_its_agent_opens_the_store_by_them(role: dict[str, str], seaweed_store: str) -> None:  # noqa: F811
    open_store(seaweed_store, os.environ).put("there", b"it is")
    for environ, answer in (({PARAMETER: NAME}, "it is\n"), ({}, "")):
        asked = subprocess.run(
            [sys.executable, "-c", _OPEN, seaweed_store, "there"],
            env={**away_from_aws(), **role, **environ},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert asked.stdout == answer, asked.stderr
