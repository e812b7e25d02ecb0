"""What is built: the wheel's files, the version, and, among the long tests, the wheel at work."""

import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import keras
import pytest

from tests import ROOT

pytest.importorskip("hatchling", reason='builds the package: pip install ".[test]"')
HOME = ROOT
CODE = ("keras_gated", "benchmarks", "examples", "site_pages", "tests")
VERSION = tomllib.loads((HOME / "pyproject.toml").read_text())["project"]["version"]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with the wheel and the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(folder)]
    subprocess.run(command, cwd=HOME, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def wheel(built) -> Path:
    return built / f"keras_gated-{VERSION}-py3-none-any.whl"


def test_the_wheel_holds_the_package_and_no_more(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    # What git does not know may lie beside it: caches.
    files = [p for end in ("*.py", "*.mjs") for p in (HOME / "keras_gated").rglob(end)]
    package = {path.relative_to(HOME).as_posix() for path in files}
    assert names == package | {"keras_gated/py.typed", "keras_gated_cli.py"}


def test_the_wheel_says_what_pyproject_says(wheel):
    with zipfile.ZipFile(wheel) as archive:
        about = f"keras_gated-{VERSION}.dist-info"
        metadata = archive.read(f"{about}/METADATA").decode()
        scripts = archive.read(f"{about}/entry_points.txt").decode()
        assert "Apache License" in archive.read(f"{about}/licenses/LICENSE").decode()
    assert f"\nVersion: {VERSION}\n" in metadata
    assert "keras-gated = keras_gated_cli:main" in scripts


def test_the_sdist_has_all_that_builds_and_tests_it(built):
    root = f"keras_gated-{VERSION}"
    with tarfile.open(built / f"{root}.tar.gz") as archive:
        names = {name.removeprefix(f"{root}/") for name in archive.getnames()}
    for name in ("pyproject.toml", "LICENSE", "CITATION.cff", "keras_gated/py.typed"):
        assert name in names
    for folder in ("tests", "examples", "benchmarks"):
        files = {p.relative_to(HOME).as_posix() for p in (HOME / folder).rglob("*.py")}
        assert files and files <= names
    assert not [name for name in names if "__pycache__" in name or name.startswith(".git/")]


def test_the_version_is_the_same_wherever_it_stands():
    first = re.search(r"^## \[?(\d[^\s\]]*)", (HOME / "CHANGELOG.md").read_text(), re.MULTILINE)
    cited = re.search(r"^version: (\S+)$", (HOME / "CITATION.cff").read_text(), re.MULTILINE)
    assert first and cited
    assert first[1] == cited[1] == VERSION
    assert re.fullmatch(r"\d+\.\d+\.\d+", VERSION)


@pytest.mark.long
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="it names its backend itself")
def test_the_wheel_works_where_the_checkout_is_not(wheel, tmp_path):
    """The packages it needs are those installed here; the editable one here is not seen."""
    home = tmp_path / "environment"
    venv.create(home, with_pip=False)
    paths = {"base": str(home), "platbase": str(home)}
    site = Path(sysconfig.get_path("purelib", "venv", paths))
    install = [sys.executable, "-m", "pip", "--python", str(home), "install", "--no-index"]
    subprocess.run([*install, "--no-deps", str(wheel)], check=True, capture_output=True)
    (site / "installed_here.pth").write_text(sysconfig.get_path("purelib") + "\n")
    smoke = HOME / "tests" / "wheel_smoke.py"
    python = Path(sysconfig.get_path("scripts", "venv", paths)) / "python"
    done = subprocess.run(
        [python, "-I", smoke, VERSION], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "trained, exported, checked" in done.stdout


def test_no_module_is_named_like_one_of_the_standard_library():
    """A folder on sys.path, as mkdocs puts site_pages there, would hide that one."""
    files = [*HOME.glob("*.py"), *(file for name in CODE for file in (HOME / name).rglob("*.py"))]
    names = {name for f in files for name in (f.stem, *f.relative_to(HOME).parent.parts)}
    assert {"keras_gated_cli", "cell", "inserts"} <= names
    assert names & sys.stdlib_module_names == set()
