"""Packages that only some runs need: which extra of ours brings each, and whether it is there. Imports none of them."""

from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

BRINGS = {
    "bitsandbytes": "qlora",
    "tensorboard": "tensorboard",
    "wandb": "wandb",
    "trackio": "trackio",
    "mlflow": "mlflow",
}
"""Package → the extra in pyproject.toml that installs it in a version we know."""


def demand(package: str, *, asked_by: str) -> None:
    """Passes where the package is installed.

    Args:
        asked_by: The setting that needs it, as a person wrote it: `report_to: [wandb]`.

    Raises:
        ValueError: it is not; says what to install.
    """
    if not installed(package):
        raise ValueError(
            f"{asked_by} needs the package {package}, which is not installed here: pip install "
            f"'dressage[{BRINGS[package]}]', or leave it out"
        )


def installed(package: str) -> bool:
    """Whether an import would find it; a bare folder of that name, such as wandb's of its runs, is no package."""
    spec = find_spec(package)
    return spec is not None and spec.origin is not None


def version_of(package: str) -> str:
    """Its version, for a fingerprint; `absent` where it is not installed."""
    for name in (package, f"{package}-skinny"):  # mlflow without its server is a package of the second name
        with suppress(PackageNotFoundError):
            return version(name)
    return "absent"
