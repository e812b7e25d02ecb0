"""Who may import whom, and what importing the package costs."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import keras_gated
from tests.rooms import ROOMS, modules_in_order

HOME = Path(keras_gated.__file__).parent
TESTS = Path(__file__).parent
NATIVE = ("engine", "onnx", "conformance", "speed")  # these folders may name a backend
BACKENDS = ("tensorflow", "jax", "torch")
HEAVY = ("torch", "jax", "onnx", "onnxruntime", "tf2onnx", "matplotlib")
FILES = sorted(HOME.rglob("*.py"))
files = pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(HOME)))


def module_of(file: Path) -> str:
    parts = file.relative_to(HOME).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(file: Path) -> list[tuple[str, bool]]:
    """(dotted name, whether inside a function) of all that a file imports."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    inner = {id(node) for function in functions for node in ast.walk(function)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in inner) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file.name}: write imports in full, not relative"
            found += [(f"{node.module}.{alias.name}", id(node) in inner) for alias in node.names]
    return found


def own_module(name: str) -> str | None:
    """The module of the package that a dotted name is or is in; None for another package's."""
    module = name.removeprefix("keras_gated").lstrip(".")
    if name == module:
        return None
    while module and module not in MODULES:
        module = module.rpartition(".")[0]
    return module


MODULES = {module_of(file) for file in FILES}


def test_each_module_has_one_room_and_each_room_a_module():
    modules = {module for module in MODULES if not (HOME / module.replace(".", "/")).is_dir()}
    assert sorted(modules_in_order(ROOMS)) == sorted(modules)


@files
def test_arrows_point_one_way(file):
    module, rooms = module_of(file), modules_in_order(ROOMS)
    if file.name == "__init__.py":  # the public face may import everything, folders hold no code
        return
    for name, _ in imported(file):
        if (target := own_module(name)) is not None:
            ahead = rooms.index(target) < rooms.index(module)
            assert ahead, f"{module} must not import {name}"


@files
def test_public_keras_only(file):
    text = file.read_text(encoding="utf-8")
    assert "keras.src" not in text and "keras._" not in text
    assert not [name for name, _ in imported(file) if name.startswith(("keras.src", "tf_keras"))]


@files
def test_backends_only_in_their_place(file):
    room = module_of(file).partition(".")[0]
    found = {name.partition(".")[0] for name, _ in imported(file)} & set(BACKENDS)
    assert room in NATIVE or not found, f"{file.name} imports {found}"


@files
def test_extras_only_inside_functions_of_their_room(file):
    at_import = {name.partition(".")[0] for name, inner in imported(file) if not inner}
    assert not at_import & {"onnx", "onnxruntime", "tf2onnx", "matplotlib"}
    inside = {name.partition(".")[0] for name, inner in imported(file) if inner}
    onnx = inside & {"onnx", "onnxruntime", "tf2onnx"}
    assert not onnx or module_of(file).startswith("onnx."), f"{file.name} imports {onnx}"


@pytest.mark.parametrize("name", ["parts", "cell_spec", "normal_form"])
def test_specifications_need_the_standard_library_only(name):
    others = {n.partition(".")[0] for n, _ in imported(HOME / "spec" / f"{name}.py")} - {
        "keras_gated"
    }
    assert others <= sys.stdlib_module_names


def test_a_stream_needs_numpy_and_onnxruntime_only():
    others = {n.partition(".")[0] for n, _ in imported(HOME / "onnx" / "streaming_session.py")}
    assert others - set(sys.stdlib_module_names) == {"numpy", "onnxruntime"}


# Files name a class by what it was registered under: h5 files by nothing else.
REGISTERED = ["GatedCell", "GatedRNN", "GatedGRU", "GatedLSTM", "Chrono", "ForgetBias"]
LOADED = f"""
import sys
import keras
before = set(sys.modules)
import keras_gated
print(*sorted(set({HEAVY!r}) & (set(sys.modules) - before)))
found = [keras.saving.get_registered_object("keras_gated>" + name) for name in {REGISTERED!r}]
print(*(one and one.__name__ for one in found))
"""


def test_importing_registers_the_layers_and_loads_no_more_than_keras_does():
    environment = os.environ | {"PYTHONPATH": str(HOME.parent)}
    command = [sys.executable, "-c", LOADED]  # a fresh interpreter: this one has loaded it all
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    heavy, registered = done.stdout.splitlines()
    assert registered.split() == REGISTERED
    assert heavy.split() == [], f"with backend {keras.backend.backend()}"


def test_tests_import_helpers_and_never_other_tests():
    modules = {file.stem for file in TESTS.rglob("test_*.py")}
    for file in TESTS.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in getattr(node, "names", [])]
            names += [getattr(node, "module", None) or ""]
            parts = {part for name in names for part in name.split(".")}
            assert not isinstance(node, ast.Import | ast.ImportFrom) or not parts & modules, file


def test_public_names_are_sorted_and_there():
    assert keras_gated.__all__ == sorted(keras_gated.__all__)
    for name in keras_gated.__all__:
        assert getattr(keras_gated, name) is not None
