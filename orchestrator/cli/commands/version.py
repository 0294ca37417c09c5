"""`elastic version`: what is installed."""

import platform
import sys

from orchestrator.cli.options import OutputOption
from orchestrator.cli.output import Format, emit

_LIBRARIES = ("torch", "torchvision", "boto3", "pydantic", "typer", "rich")


def installed_version() -> str:
    """The version of elastic itself."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as version_of

    try:
        return version_of("elastic")
    except PackageNotFoundError:  # run from a source tree that nobody installed
        return "unknown"


def version(output: OutputOption = Format.TABLE) -> None:
    """Print the version.

    With -o wide, json or yaml also those of Python and the libraries.
    """
    emit(
        output,
        data=_versions,
        names=lambda: [installed_version()],
        table=lambda: (
            "\n".join(f"{name} {version}" for name, version in _versions().items())
            if output is Format.WIDE
            else f"elastic {installed_version()}"
        ),
    )


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as version_of

    versions = {
        "elastic": installed_version(),
        "python": platform.python_version(),
        "platform": f"{sys.platform} {platform.machine()}",
    }
    for library in _LIBRARIES:
        try:
            versions[library] = version_of(library)
        except PackageNotFoundError:
            versions[library] = "not installed"
    return versions
