"""What an instance does from its first boot to its end: `instance.sh`, with the settings of one launch in it. Pure."""

import shlex
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from orchestrator.fleets.protocol import LaunchError, LaunchRequest
from orchestrator.jobs.cloud_account import CloudAccount

_TEMPLATE = Path(__file__).with_name("instance.sh")
_PLACE = "# settings\n"
REGION_VARIABLE = "AWS_REGION"


def user_data(request: LaunchRequest, account: CloudAccount) -> str:
    """The program that cloud-init runs. The same launch gives the same text. Raises LaunchError."""
    bucket, prefix = _bucket(account.store_url)
    settings = {
        "INSTANCE": request.instance,
        "JOB": request.job,
        "WORKERS": str(request.workers),
        "CORES": str(request.workers * request.cores_per_worker),
        "ALLOWANCE_S": "none" if request.allowance_s is None else f"{request.allowance_s:.0f}",
        "IMAGE": request.image or "",
        "STORE": account.store_url,
        "BUCKET": bucket,
        "KEY": f"{prefix}/{account.package_key}".lstrip("/"),
        "PACKAGE": account.package_key,
        "PACKAGE_SHA256": account.package_sha256,
    }
    environment = {REGION_VARIABLE: account.region, **account.environment}
    lines = [f"readonly {name}={shlex.quote(value)}" for name, value in settings.items()]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in sorted(environment.items())]
    before, place, after = _template().partition(_PLACE)
    assert place, f"{_TEMPLATE} has no place for settings"
    return before + "\n".join(lines) + "\n" + after


@cache
def _template() -> str:
    return _TEMPLATE.read_text(encoding="utf-8")


def _bucket(store_url: str) -> tuple[str, str]:
    """Bucket and prefix of a store that instances can reach."""
    parts = urlsplit(store_url)
    if parts.scheme != "s3" or not parts.netloc:
        raise LaunchError(f"instances of EC2 cannot reach the store {store_url}: it has to be s3://...", kind="fatal")
    return parts.netloc, parts.path.strip("/")
