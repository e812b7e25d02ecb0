"""The versions of the packages on which numbers depend. Every line of results has them."""

import importlib.metadata
from functools import cache

PACKAGES = "keras-gated", "keras", "tensorflow", "tensorflow-cpu", "jax", "torch", "numpy"
PACKAGES += "scipy", "scikit-learn", "music21", "sktime"


@cache
def versions() -> dict[str, str]:
    """Returns package -> version, without the packages that are not installed."""
    found = {name: _version(name) for name in PACKAGES}
    return {name: version for name, version in found.items() if version}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def versions_text(results: list[dict]) -> str:
    """Returns the versions with which results were made, such as "keras 3.14.0 and 3.15.1"."""
    found: dict[str, list[str]] = {}
    for result in results:
        for name, version in result.get("versions", {}).items():
            if version not in found.setdefault(name, []):
                found[name].append(version)
    return ", ".join(f"{name} {' and '.join(several)}" for name, several in found.items())
