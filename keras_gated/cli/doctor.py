"""The command doctor: what is installed here, and whether it fits together. It imports no Keras."""

import argparse
import importlib.metadata
import platform
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from packaging.requirements import Requirement
from rich.table import Table

from keras_gated.cli.command import Result, add_command, table_text
from keras_gated.installation import BACKENDS, backend_problem, keras_backend

FOR_DEVELOPERS = ("test", "dev", "docs")  # extras that the table leaves out


@dataclass(frozen=True)
class Package:
    """A package that keras_gated needs or can use.

    Attributes:
        name: of the package.
        installed: its version, or None.
        wanted: the versions that keras_gated works with.
        extra: the extras that install it; empty if keras_gated always needs it.
        fits: bool. True also for a package that is not installed, if only an extra needs it.
    """

    name: str
    installed: str | None
    wanted: str
    extra: str
    fits: bool


@dataclass(frozen=True)
class Health:
    """What is installed here, and what is wrong with it."""

    python: str
    machine: str
    packages: tuple[Package, ...]
    problems: tuple[str, ...]
    keras_backend: str

    def __str__(self) -> str:
        table = Table("package", "installed", "wanted", "for", title=f"Python {self.python}")
        for package in self.packages:
            installed = package.installed or "-"
            style = None if package.fits else "red"
            table.add_row(package.name, installed, package.wanted, package.extra, style=style)
        verdict = "\n".join(self.problems) or "No problems found."
        return f"{table_text(table)}\n{self.machine}\n{self.keras_backend}\n{verdict}"


def add_doctor(commands) -> None:
    """Adds the command."""
    text = "Show what is installed here, and say what is missing or does not fit."
    more = "It also shows which backend Keras would use."
    add_command(commands, "doctor", _doctor, text, more)


def _doctor(_: argparse.Namespace) -> Result:
    packages = tuple(_packages())
    problems = tuple(_problems(packages))
    machine = f"{platform.system()} {platform.machine()}; GPUs: {_gpus()}"
    backend = keras_backend()
    text = f"Keras's backend: {backend.name} ({backend.source})"
    report = Health(platform.python_version(), machine, packages, problems, text)
    return Result(report, passed=not problems)


def _problems(packages: tuple[Package, ...]) -> Iterator[str]:
    for p in packages:
        if not p.fits:
            purpose = f" for [{p.extra}]" if p.extra else ""
            state = p.installed or "is missing"
            yield f"{p.name} {state}: keras_gated needs {p.name}{p.wanted}{purpose}"
    if problem := backend_problem():
        yield problem
    elif (name := keras_backend().name) not in BACKENDS:
        yield (
            f"Keras's backend {name!r} cannot run the layers of keras_gated. Choose one of "
            f"{', '.join(BACKENDS)} with the variable KERAS_BACKEND."
        )


def _packages() -> Iterator[Package]:
    """Yields the packages that keras_gated's metadata lists, each with the extras it is for."""
    extras: dict[tuple[str, str], list[str]] = {}
    for text in importlib.metadata.requires("keras-gated") or ():
        requirement = Requirement(text)
        extra = _extra(requirement)
        if requirement.name != "keras-gated" and extra not in FOR_DEVELOPERS:
            key = (requirement.name, str(requirement.specifier))
            extras.setdefault(key, []).append(extra)
    for (name, wanted), purposes in extras.items():
        installed, needed = _version(name), "" in purposes
        specifier = Requirement(f"{name}{wanted}").specifier
        fits = specifier.contains(installed, prereleases=True) if installed else not needed
        yield Package(name, installed, wanted, ", ".join(filter(None, purposes)), fits)


def _extra(requirement: Requirement) -> str:
    """Returns the extra in a marker such as `extra == "onnx"`; empty if there is none."""
    marker = str(requirement.marker or "")
    return marker.rpartition("extra == ")[2].strip('"')


def _version(name: str) -> str | None:
    """Returns the version of a package, or of its CPU or GPU build."""
    for build in (name, f"{name}-cpu", f"{name}-gpu"):
        try:
            return importlib.metadata.version(build)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _gpus() -> str:
    """Returns what the program nvidia-smi lists."""
    if not (program := shutil.which("nvidia-smi")):
        return "none found (no nvidia-smi)"
    try:
        done = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"unknown: {error}"
    listed = "; ".join(done.stdout.splitlines())
    return listed if done.returncode == 0 and listed else f"none: {done.stderr or listed}".strip()
