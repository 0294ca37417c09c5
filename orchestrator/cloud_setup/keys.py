"""The store's own keys, where it is at another S3 service: in a parameter of SSM, which instances may read.

They stand nowhere else: not in the stack, in user data, or in the store.
"""

from collections.abc import Mapping

from botocore.exceptions import ClientError

from orchestrator.cloud_setup.clients import Caller, Clients
from orchestrator.cloud_setup.refusals import code_of
from orchestrator.store.s3_keys import Keys, keys_of


def parameter_of(stack: str) -> str:
    """The name of a stack's parameter."""
    return f"/elastic/{stack}/store"


def arn_of(stack: str, caller: Caller, region: str) -> str:
    """Its ARN, by which the instances' role may read it."""
    return f"arn:{caller.partition}:ssm:{region}:{caller.account_id}:parameter{parameter_of(stack)}"


def wanted_arn(
    stack: str, makes_bucket: bool, before: Mapping[str, str], caller: Caller, region: str, environ: Mapping[str, str]
) -> str:
    """What the stack is told: of keys there are now, or were when it was made; empty: instances have their role."""
    if not makes_bucket and keys_of(environ) is not None:
        return arn_of(stack, caller, region)
    return before.get("StoreKeysArn", "")


def send_keys(clients: Clients, stack: str, environ: Mapping[str, str]) -> bool:
    """Put the keys into the parameter; False: there are none now, or they are there already."""
    keys = keys_of(environ)
    if keys is None or _known(clients, stack) == keys:
        return False
    with clients.explaining("put the store's keys into a parameter of SSM"):
        clients.ssm.put_parameter(
            Name=parameter_of(stack),
            Description="What instances of elastic open their store with",
            Value=keys.as_json(),
            Type="SecureString",
            Overwrite=True,
        )
    return True


def remove_keys(clients: Clients, stack: str) -> None:
    """Remove the parameter, if there is one."""
    with clients.explaining("remove the store's keys"):
        try:
            clients.ssm.delete_parameter(Name=parameter_of(stack))
        except ClientError as error:
            if code_of(error) != "ParameterNotFound":
                raise


def _known(clients: Clients, stack: str) -> Keys | None:
    with clients.explaining("look for the store's keys in SSM"):
        try:
            answer = clients.ssm.get_parameter(Name=parameter_of(stack), WithDecryption=True)
        except ClientError as error:
            if code_of(error) == "ParameterNotFound":
                return None
            raise
    try:
        return Keys.from_json(answer["Parameter"].get("Value", ""))
    except ValueError:
        return None
