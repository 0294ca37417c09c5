"""`elastic bootstrap`: make an AWS account ready for instances, show what that would change, or take it all away."""

import re
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import OutputOption, flag
from orchestrator.cli.output import Format, emit
from orchestrator.cli.prose import on_terminal, say, suggest
from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from orchestrator.cloud_setup.clients import Clients
    from orchestrator.cloud_setup.setting_up import Ports, Wishes
    from orchestrator.cloud_setup.tearing_down import Removal

_STACK_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,30}")  # a bucket's name is made of it, with account and region


def bootstrap(
    context: typer.Context,
    profile: Annotated[str | None, typer.Option("--profile", metavar="NAME", help="Of ~/.aws/config.")] = None,
    region: Annotated[str | None, typer.Option("--region", metavar="REGION", help="Where instances run.")] = None,
    stack: Annotated[
        str, typer.Option("--stack", metavar="NAME", help="Name of the CloudFormation stack.")
    ] = "elastic",
    bucket: Annotated[
        str | None,
        typer.Option("--bucket", metavar="NAME", help="Bucket to make.", show_default="STACK-ACCOUNT-REGION"),
    ] = None,
    vpc: Annotated[
        str | None, typer.Option("--vpc", metavar="VPC", help="Network.", show_default="the default")
    ] = None,
    subnets: Annotated[
        str | None,
        typer.Option("--subnets", metavar="SUBNET,...", help="One for each zone.", show_default="all of them"),
    ] = None,
    ami: Annotated[
        str | None,
        typer.Option("--ami", metavar="AMI", help="Image of instances.", show_default="AWS's, with the driver"),
    ] = None,
    ami_parameter: Annotated[
        str | None, typer.Option("--ami-parameter", metavar="NAME", help="SSM parameter that names the image.")
    ] = None,
    volume: Annotated[
        int | None, typer.Option("--volume", metavar="GIB", min=30, help="Disk of an instance.", show_default="100")
    ] = None,
    data_buckets: Annotated[
        list[str] | None,
        typer.Option("--data-bucket", metavar="NAME", help="Another bucket with images to train on; may be repeated."),
    ] = None,
    diff: Annotated[bool, flag("--diff", help="Show what would change, and change nothing.")] = False,
    destroy: Annotated[bool, flag("--destroy", help="Remove the stack; the bucket stays.")] = False,
    delete_bucket: Annotated[
        str | None,
        typer.Option("--delete-bucket", metavar="NAME", help="With --destroy: this bucket too, and all in it."),
    ] = None,
    yes: Annotated[bool, flag("--yes", "-y", help="Do not ask; needed where nobody can be asked.")] = False,
    output: OutputOption = Format.TABLE,
    store: Annotated[
        str | None, typer.Option("--store", metavar="URL", help="Use s3://BUCKET/PREFIX, which is there; make none.")
    ] = None,
) -> None:
    """Make an AWS account ready for instances: once, and again after every upgrade.

    One CloudFormation stack, which costs nothing at rest but the bytes in its bucket.
    """
    from orchestrator.cloud_setup.clients import open_clients
    from orchestrator.cloud_setup.setting_up import Ports, Wishes

    invocation = Invocation.of(context)
    if _STACK_NAME.fullmatch(stack) is None:
        raise UsageError(f"--stack {stack}: use letters, digits and hyphens, at most 31, beginning with a letter")
    if delete_bucket is not None and not destroy:
        raise UsageError("--delete-bucket goes with --destroy")
    if destroy and diff:
        raise UsageError("--diff shows what would be made, and --destroy removes it: use one of them")
    clients = open_clients(profile, region, invocation.environ)
    ports = Ports(invocation.environ, invocation.nonce, invocation.sleep, lambda words: say(f"  {words}"))
    wishes = Wishes(
        stack=stack,
        bucket=bucket,
        store_url=store or invocation.store_url,
        vpc=vpc,
        subnets=[part.strip() for part in (subnets or "").split(",") if part.strip()],
        ami=ami,
        ami_parameter=ami_parameter,
        volume_gib=volume,
        data_buckets=data_buckets or None,
    )
    if destroy:
        _destroy(clients, stack, delete_bucket, yes, ports)
    elif diff:
        _show_changes(clients, wishes, ports, output)
    else:
        if wishes.store_url is not None:
            _ask_for_keys(stack, yes, invocation)
        _set_up(clients, wishes, ports, output)


def _ask_for_keys(stack: str, yes: bool, invocation: Invocation) -> None:
    """Whether the store's own keys may go to where instances read them. Raises UsageError, Abort."""
    from orchestrator.cloud_setup.keys import parameter_of
    from orchestrator.store.s3_keys import KEY_ID, keys_of

    if keys_of(invocation.environ) is None or yes:
        return
    parameter = parameter_of(stack)
    if not on_terminal():
        raise UsageError(
            f"nobody can be asked here whether the store's keys ({KEY_ID}) may go into the SSM parameter {parameter}, "
            "from where instances read them: say so with --yes"
        )
    typer.confirm(
        f"Put the store's keys into the SSM parameter {parameter}, for instances to read", abort=True, err=True
    )


def _set_up(clients: "Clients", wishes: "Wishes", ports: "Ports", output: Format) -> None:
    from orchestrator.cli.cloud_tables import as_data, made_of, made_table
    from orchestrator.cloud_setup.setting_up import set_up

    say(f"Setting up the stack {wishes.stack} in {clients.region}.")
    made = set_up(clients, wishes, ports)
    parts = made_of(made)
    emit(
        output,
        data=lambda: as_data(made),
        names=lambda: [part.name for part in parts],
        table=lambda: made_table(parts),
    )
    if not made.changes and not made.package_sent and not made.account_written and not made.keys_sent:
        say("Nothing had to be changed.")
    say("At rest this costs nothing but the bytes in the bucket.")
    suggest(
        (f"export ELASTIC_STORE={made.store_url}", "where jobs live from now on"),
        ("elastic init", "a job.yaml to start from; in it: fleet: ec2"),
        ("elastic submit job.yaml", "instances are paid for from here on"),
    )


def _show_changes(clients: "Clients", wishes: "Wishes", ports: "Ports", output: Format) -> None:
    from orchestrator.cli.cloud_tables import changes_data, changes_table
    from orchestrator.cloud_setup import stack as stacks
    from orchestrator.cloud_setup.setting_up import intend, plan

    planned = plan(clients, intend(clients, wishes, ports), ports)
    changes = planned.changes if planned else ()
    if planned is not None:
        stacks.discard(clients, planned)
    emit(
        output,
        data=lambda: changes_data(changes),
        names=lambda: [change.resource for change in changes],
        table=lambda: changes_table(changes),
    )
    if planned is None:
        say(f"The stack {wishes.stack} is as it would be made.")
    else:
        say("Nothing was changed." if changes else "Only parameters of the stack would change; nothing was changed.")


def _destroy(clients: "Clients", stack: str, delete_bucket: str | None, yes: bool, ports: "Ports") -> None:
    from orchestrator.cloud_setup.tearing_down import look, remove_its_bucket, remove_stack

    removal = look(clients, stack, delete_bucket)
    if removal.stack is None and (delete_bucket is None or removal.objects is None):
        say(f"There is no stack {stack} in {clients.region}: nothing to remove.")
        return
    if not yes:
        _confirm(removal, stack, delete_bucket)
    if removal.stack is not None:
        remove_stack(clients, removal, ports)
        say(f"Removed the stack {stack}.")
    if delete_bucket is not None and removal.objects is not None:
        removed = remove_its_bucket(clients, removal)
        say(f"Removed the bucket {delete_bucket} with {removed:,} versions of objects.")
    elif removal.objects is not None:
        say(
            f"The bucket {removal.place.bucket} stays, with {removal.objects}, and is all that is still paid for. "
            f"elastic bootstrap --stack {stack} takes it back."
        )
        suggest(
            (
                f"elastic bootstrap --destroy --stack {stack} --delete-bucket {removal.place.bucket}",
                "removes it too, with every job in it",
            )
        )


def _confirm(removal: "Removal", stack: str, delete_bucket: str | None) -> None:
    """Ask; about a bucket in words that nobody types by habit. Raises UsageError, Abort."""
    if not on_terminal():
        raise UsageError(f"nobody can be asked here whether to remove the stack {stack}: say so with --yes")
    if delete_bucket is None:
        typer.confirm(f"Remove the stack {stack}? The bucket stays", abort=True, err=True)
        return
    say(f"The bucket {delete_bucket} holds {removal.objects}: every job, checkpoint and log would be gone for good.")
    if typer.prompt("Type the bucket's name to remove it", err=True) != delete_bucket:
        raise typer.Abort
