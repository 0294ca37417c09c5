"""An account on moto, in this process, with what its CloudFormation leaves out put right."""

import contextlib
import functools
import io
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from moto import mock_aws
from moto.ec2.models import ec2_backends
from moto.ec2.models.amis import Ami

from orchestrator.cloud_setup import living, setting_up
from orchestrator.cloud_setup.clients import Clients, open_clients
from orchestrator.cloud_setup.setting_up import Made, Ports, Wishes, set_up
from orchestrator.cloud_setup.wheel import build_wheel
from orchestrator.rehearsal.mended_stacks import mend_stacks
from tests.cli.conftest import Elastic, elastic, store_url  # noqa: F401
from tests.deploy.stack_template import ACCOUNT, REGION

IMAGE = "ami-12c6146b"
"""The only one there is: moto's own, of which it makes 1,300 for every account, take longer than a test."""
IMAGE_PARAMETER = "/elastic/image"
BUCKET = f"elastic-123456789012-{REGION}"


_loader = functools.cache(botocore.session.create_loader)
"""botocore reads its models of services anew for each session, which takes longer than all else that a test does."""

_build_wheel = functools.cache(build_wheel)


@contextlib.contextmanager
def an_account() -> Iterator[str]:
    """An empty account; the value is an image that instances can boot."""
    mend_stacks()
    with pytest.MonkeyPatch.context() as patch, mock_aws(), warnings.catch_warnings():
        for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_SESSION_TOKEN"):
            patch.delenv(name, raising=False)
        patch.setenv("AWS_DEFAULT_REGION", REGION)
        warnings.filterwarnings("ignore", message="Tried to parse AWS::")  # what moto cannot make, it leaves out
        patch.setattr(botocore.session, "create_loader", _loader)
        patch.setattr(setting_up, "build_wheel", _build_wheel)
        patch.setattr(living, "SHOWN_WITHIN_S", 0.0)  # moto shows at once what was launched
        patch.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")
        backend = ec2_backends[ACCOUNT][REGION]
        backend.amis[IMAGE] = Ami(backend, IMAGE, name="elastic", architecture="x86_64", root_device_type="ebs")
        boto3.client("ssm").put_parameter(Name=IMAGE_PARAMETER, Value=IMAGE, Type="String")
        yield IMAGE


@pytest.fixture
def aws() -> Iterator[str]:
    """An empty account of the test's own."""
    with an_account() as image:
        yield image


@pytest.fixture
def bootstrap(aws: str, elastic: Elastic) -> Elastic:  # noqa: F811
    """`elastic bootstrap ARGUMENTS` in this process."""
    return lambda *arguments, **named: elastic("bootstrap", "--ami-parameter", IMAGE_PARAMETER, *arguments, **named)


@dataclass
class Asked:
    """The requests that were sent to AWS: service and operation with their parameters, in order."""

    requests: list[tuple[str, dict[str, Any]]]

    def of(self, operation: str) -> list[dict[str, Any]]:
        """The parameters of each request of one kind, such as 'ec2.RunInstances'."""
        return [parameters for name, parameters in self.requests if name == operation]


@contextlib.contextmanager
def noting_requests() -> Iterator[Asked]:
    """Note what every client sends that is made meanwhile."""
    asked = Asked([])
    real = boto3.session.Session.client

    def client(self: Any, *arguments: Any, **named: Any) -> Any:
        made = real(self, *arguments, **named)

        def note(event_name: str, params: dict[str, Any], **_: object) -> None:
            asked.requests.append((event_name.removeprefix("before-parameter-build."), dict(params)))

        made.meta.events.register_last("before-parameter-build.*.*", note)
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boto3.session.Session, "client", client)
        yield asked


Answer = Callable[[dict[str, Any]], tuple[int, dict[str, Any]] | None]
"""What AWS answers to a request by its parameters and `headers`: status and contents; None: what it does anyway."""


@contextlib.contextmanager
def answering(operation: str, answer: Answer) -> Iterator[None]:
    """Every client that is made meanwhile gets this answer to requests of one kind, such as 'ec2.RunInstances'."""
    real = boto3.session.Session.client

    def client(self: Any, *arguments: Any, **named: Any) -> Any:
        made = real(self, *arguments, **named)
        sent: list[dict[str, Any]] = []

        def note(params: dict[str, Any], **_: object) -> None:
            sent.append(dict(params))

        def reply(params: dict[str, Any], **_: object) -> tuple[AWSResponse, dict[str, Any]] | None:
            said = answer({**sent[-1], "headers": params["headers"]})
            if said is None:
                return None
            status, contents = said
            metadata = {"HTTPStatusCode": status, "HTTPHeaders": contents.pop("headers", {})}
            return AWSResponse("https://test", status, HTTPHeaders(), io.BytesIO()), {
                **contents,
                "ResponseMetadata": metadata,
            }

        made.meta.events.register_last(f"before-parameter-build.{operation}", note)
        made.meta.events.register_first(f"before-call.{operation}", reply)
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boto3.session.Session, "client", client)
        yield


def refusing(status: int, code: str, message: str, **headers: str) -> Answer:
    """An error of AWS's."""
    return lambda _params: (status, {"Error": {"Code": code, "Message": message}, "headers": headers})


def made_account(**wishes: Any) -> tuple[Clients, Made]:
    """The account, set up."""
    clients = open_clients(None, REGION, {})
    nonces = iter(f"nonce{number:03d}" for number in range(1000))
    ports = Ports(os.environ, lambda: next(nonces), lambda _seconds: None, lambda _words: None)
    return clients, set_up(clients, Wishes("elastic", ami_parameter=IMAGE_PARAMETER, **wishes), ports)
