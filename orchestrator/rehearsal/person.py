"""The person of a rehearsal: a user of the account on loopback, who sets it up as a person with an account would.

Nothing of it reaches AWS, whatever the real person's settings: in `Person.environ` are endpoints on loopback for every
service, keys that open nothing elsewhere, and none of the real person's own.
"""

import subprocess
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.errors import ElasticError, UsageError
from orchestrator.jobs.cloud_account import ACCOUNT_KEY, CloudAccount
from orchestrator.rehearsal.account import Account
from orchestrator.rehearsal.imds import Credentials

BUCKET = "elastic-rehearsal"
PREFIX = "store"
STORE_URL = f"s3://{BUCKET}/{PREFIX}"
STACK = "elastic"
IMAGE = "ami-12c6146b"
"""An image that moto knows; what machines really find on their disks is `image`'s matter."""
IMAGE_PARAMETER = "/elastic-rehearsal/image"
_USER = "controller"
_NOT_KEPT = ("AWS_", "ELASTIC_STORE", "ELASTIC_BUCKET_OWNER", "ELASTIC_S3_")
_BOOTSTRAP_BOUND_S = 120.0


@dataclass(frozen=True)
class Person:
    """Somebody with an account."""

    account: Account
    region: str
    credentials: Credentials

    @classmethod
    def of(cls, account: Account, region: str) -> "Person":
        """A new user, who may do everything until `enforce_rights`."""
        anybody = cls(account, region, Credentials("anybody", "anybody", ""))
        anybody.client("iam").create_user(UserName=_USER)
        key = anybody.client("iam").create_access_key(UserName=_USER)["AccessKey"]
        return cls(account, region, Credentials(key["AccessKeyId"], key["SecretAccessKey"], ""))

    def environ(self, environ: Mapping[str, str], s3: str) -> dict[str, str]:
        """An environment without what is the real person's, and with what leads here and nowhere else."""
        kept = {name: value for name, value in environ.items() if not name.startswith(_NOT_KEPT)}
        return {
            **kept,
            "AWS_ENDPOINT_URL": self.account.url,  # of every service that has none of its own: none is AWS's
            "AWS_ENDPOINT_URL_S3": s3,
            "AWS_ACCESS_KEY_ID": self.credentials.access_key,
            "AWS_SECRET_ACCESS_KEY": self.credentials.secret_key,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",  # goes first where both are set
            "ELASTIC_STORE": STORE_URL,
        }

    def client(self, service: str, endpoint: str | None = None) -> Any:
        """AWS's client for a service of the account, or for one elsewhere."""
        import boto3.session

        keys = self.credentials.access_key, self.credentials.secret_key
        session: Any = boto3.session.Session(*keys, region_name=self.region)
        return session.client(service, endpoint_url=endpoint or self.account.url)

    def bootstrap(self, zones: Sequence[str], environ: Mapping[str, str]) -> None:
        """Run `elastic bootstrap`: for a bucket that is there, with a subnet in each of the zones, or in all."""
        command = [sys.executable, "-m", "orchestrator.cli.main", "--store", STORE_URL, "bootstrap"]
        self.client("ssm").put_parameter(Name=IMAGE_PARAMETER, Value=IMAGE, Type="String")
        command += ["--stack", STACK, "--ami-parameter", IMAGE_PARAMETER]
        if zones:
            command += ["--subnets", ",".join(self._subnets(zones))]
        done = subprocess.run(
            command, capture_output=True, text=True, env=dict(environ), timeout=_BOOTSTRAP_BOUND_S, check=False
        )
        if done.returncode != 0:
            raise ElasticError(f"elastic bootstrap has failed in the rehearsal: {done.stderr.strip()}")

    def package_key(self, s3: str) -> str:
        """Under which key the instances find this elastic in the bucket, as bootstrap has written it."""
        stored = self.client("s3", s3).get_object(Bucket=BUCKET, Key=f"{PREFIX}/{ACCOUNT_KEY}")
        return CloudAccount.model_validate_json(stored["Body"].read()).package_key

    def enforce_rights(self) -> None:
        """From now on the user may do what the controller's policy says, and nothing else."""
        stack = self.client("cloudformation").describe_stacks(StackName=STACK)["Stacks"][0]
        outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
        self.client("iam").attach_user_policy(UserName=_USER, PolicyArn=outputs["ControllerPolicyArn"])
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        request = urllib.request.Request(
            f"{self.account.url}/moto-api/reset-auth", b"0", {"Content-Type": "text/plain"}
        )
        with direct.open(request, timeout=20):
            pass

    def _subnets(self, zones: Sequence[str]) -> list[str]:
        subnets = self.client("ec2").describe_subnets()["Subnets"]
        found = {subnet["AvailabilityZone"]: subnet["SubnetId"] for subnet in subnets if subnet["DefaultForAz"]}
        if strange := sorted(set(zones) - set(found)):
            raise UsageError(f"--zones: {', '.join(strange)}: {self.region} has {', '.join(sorted(found))}")
        return [found[zone] for zone in zones]
