"""Who may import whom, and what importing the package costs."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import keras_gated

HOME = Path(keras_gated.__file__).parent
# A module imports only from those before it. A new module needs a place here.
ROOMS = """
    parts spec resolve activations registry catalogue
    options export.biases export.lowering notation description formula initializers
    chance draws saving cell_weights cell window recurrence layers
    batches counterparts convert torch_weights
    export traces plots callbacks conformance speed arguments commands bench cli
""".split()
# What is inside these may import one another.
OPEN = ("recurrence", "export", "conformance", "speed")
NATIVE = (*OPEN, "chance")  # these may name a backend
BACKENDS = ("tensorflow", "jax", "torch")
HEAVY = ("torch", "jax", "onnx", "onnxruntime", "tf2onnx", "matplotlib")
FILES = sorted(HOME.rglob("*.py"))
files = pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(HOME)))


def module_of(file: Path) -> str:
    parts = file.relative_to(HOME).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str | None:
    """The room of a module, its package's where it has none of its own."""
    if module in ROOMS:
        return module
    return room_of(module.rpartition(".")[0]) if "." in module else None


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


def test_every_module_has_a_room():
    homeless = [module for module in MODULES if module and room_of(module) is None]
    assert homeless == []


@files
def test_arrows_point_one_way(file):
    module = module_of(file)
    if not module:  # the public face may import everything
        return
    mine = room_of(module)
    for name, _ in imported(file):
        target = own_module(name)
        if target is None:
            continue
        other = room_of(target)
        ahead = ROOMS.index(other) < ROOMS.index(mine) if other else False
        inside = other == mine and mine in OPEN
        assert ahead or inside, f"{module} must not import {name}"


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
    assert not onnx or module_of(file).startswith("export."), f"{file.name} imports {onnx}"


@pytest.mark.parametrize("name", ["parts", "spec", "resolve"])
def test_specifications_need_the_standard_library_only(name):
    others = {n.partition(".")[0] for n, _ in imported(HOME / f"{name}.py")} - {"keras_gated"}
    assert others <= sys.stdlib_module_names


def test_a_stream_needs_numpy_and_onnxruntime_only():
    others = {n.partition(".")[0] for n, _ in imported(HOME / "export" / "session.py")}
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


def test_public_names_are_sorted_and_there():
    assert keras_gated.__all__ == sorted(keras_gated.__all__)
    for name in keras_gated.__all__:
        assert getattr(keras_gated, name) is not None
