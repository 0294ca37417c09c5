"""What `elastic bootstrap` made, or would change, laid out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from orchestrator.cloud_setup.setting_up import Made
from orchestrator.cloud_setup.stack import Change
from orchestrator.jobs.pace import STORAGE_USD_PER_GB_MONTH


@dataclass(frozen=True)
class Part:
    """A thing in the account."""

    what: str
    name: str
    good_for: str
    costs: str = "nothing"


def made_of(made: Made) -> list[Part]:
    """All that there is now, in the order in which a person asks for it."""
    outputs, account = made.stack.outputs, made.account
    stored = f"${STORAGE_USD_PER_GB_MONTH} per GB and month" if made.makes_bucket else "as before, by the GB"
    return [
        Part("store", made.store_url, "jobs, checkpoints, logs", stored),
        Part("launch template", f"{account.launch_template_id}:{account.launch_template_version}", "instances"),
        Part("security group", account.security_group_id, "nothing comes in but from the same group"),
        Part("subnets", ",".join(account.subnets.values()), "zones " + ", ".join(account.subnets)),
        Part("image", account.ami or account.ami_parameter or "", "what instances boot"),
        Part("instance role", outputs["InstanceRoleArn"], "what instances may: their part of the store"),
        Part("controller role", outputs["ControllerRoleArn"], "what a controller may, by role"),
        Part("controller policy", outputs["ControllerPolicyArn"], "the same, for a user"),
        Part("controller profile", outputs["ControllerProfileName"], "the same, for a machine in EC2"),
        Part("package", account.package_key, "this elastic, which instances install"),
    ]


def as_data(made: Made) -> dict[str, Any]:
    """For -o json and yaml."""
    return {
        "stack": made.stack.id,
        "status": made.stack.status,
        "store": made.store_url,
        "account": made.account.model_dump(exclude={"seq", "nonce"}),
        "outputs": dict(made.stack.outputs),
        "changes": changes_data(made.changes),
        "costs_at_rest": {part.what: part.costs for part in made_of(made)},
    }


def made_table(parts: Sequence[Part]) -> Table:
    """A line for each part."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("WHAT", no_wrap=True, style="bold")
    table.add_column("NAME", overflow="fold")
    table.add_column("FOR", overflow="fold")
    table.add_column("COSTS AT REST", no_wrap=True)
    for part in parts:
        table.add_row(part.what, part.name, part.good_for, part.costs)
    return table


_STYLES = {"Add": "green", "Import": "green", "Modify": "yellow", "Remove": "red"}


def changes_table(changes: Sequence[Change]) -> Table:
    """A line for each resource that would be changed."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=bool(changes))
    table.add_column("CHANGE", no_wrap=True)
    table.add_column("RESOURCE", no_wrap=True, style="bold")
    table.add_column("TYPE", no_wrap=True)
    table.add_column("WHAT", overflow="fold")
    for change in changes:
        words = "Replace" if change.replaced else change.action
        table.add_row(
            Text(words, style=_STYLES.get(change.action, "")), change.resource, change.kind, ", ".join(change.what)
        )
    return table


def changes_data(changes: Sequence[Change]) -> list[dict[str, Any]]:
    """For -o json and yaml."""
    return [
        {
            "action": change.action,
            "resource": change.resource,
            "type": change.kind,
            "replaced": change.replaced,
            "what": list(change.what),
        }
        for change in changes
    ]
