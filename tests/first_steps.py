"""The install lines that README and the site's guides print, and what to run after each.

`nox -s first_steps` runs each line in a fresh environment of its own, and then the commands
of its entry here. A test finds every line in the pages, and fails for one that has no entry here.
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from tests import ROOT

LINE = re.compile(r"pip install ([^`\n#&;]+)")

# What a reader does first with a layer. `{out}` is an empty folder.
TRAIN = """
import keras, numpy as np
import keras_gated as kg
x = np.random.default_rng(0).standard_normal((8, 6, 3)).astype("float32")
layers = [kg.GatedLSTM(4, forget_gate=False, return_sequences=True), keras.layers.Dense(3)]
model = keras.Sequential([keras.Input((None, 3)), *layers])
model.compile("adam", "mse")
model.fit(x, x, verbose=0)
assert kg.describe("mgu", input_dim=3, units=4)
model.save("model.keras")
keras.saving.load_model("model.keras")
"""
EXPORT = (
    TRAIN + 'kg.export_onnx(model, "model.onnx"); assert kg.check_onnx(model, "model.onnx").passed'
)
RUNTIMES = (
    EXPORT + '; names = ("onnxruntime", "openvino", "tract")\n'
    'assert kg.check_onnx(model, "model.onnx", runtimes=names).passed'
)


@dataclass(frozen=True)
class FirstStep:
    """What to run after an install line.

    Attributes:
        commands: in the fresh environment; `{out}` is an empty folder.
        backend: of Keras.
        outside_clone: whether to run in an empty folder and not in the clone, where the package
            would be found without being installed.
        before: what to install first; the line itself would take a far larger build of it.
        instead: what to install in place of the line, where it needs another machine.
    """

    commands: tuple[tuple[str, ...], ...]
    backend: str = "tensorflow"
    outside_clone: bool = True
    before: tuple[str, ...] = ()
    instead: tuple[str, ...] = ()


def python(*arguments: str, **options) -> FirstStep:
    """Returns a step of one Python command."""
    return FirstStep((("python", *arguments),), **options)


PYTEST = ("-m", "pytest", "-q")
SITE = ("-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", "{out}")
GPU_TESTS = (*PYTEST, "-W", "default", "tests/gpu/test_gpu_numbers.py", "-k", "lstm and float32")
STEPS = {
    ".[tensorflow]": python("-c", TRAIN),
    ".[jax]": python("-c", TRAIN, backend="jax"),
    ".[torch]": python("-c", TRAIN, backend="torch", before=("torch==2.13.0",)),
    ".[onnx]": python("-c", EXPORT),
    ".[runtimes]": python("-c", RUNTIMES, before=(".[onnx]",)),
    ".[tensorflow,onnx,plot]": python("-c", EXPORT + "; kg.plot_gates(kg.trace_gates(model, x))"),
    ".[tensorflow,docs]": python(*SITE, outside_clone=False),
    ".[examples]": python(
        "examples/quickstart.py", "--smoke", "--out", "{out}", outside_clone=False
    ),
    ".[cluster]": python("-c", "import ray"),  # it is added to an environment that has a backend
    ".[test]": python(
        *PYTEST, "tests/test_imports.py", outside_clone=False
    ),  # `nox -s tests` runs all
    ".[test,dev]": FirstStep(
        (("ruff", "check", "."), ("nox", "--list"), ("python", *PYTEST, "tests/test_imports.py")),
        outside_clone=False,
    ),
    "keras==3.14.0 .[test]": python(*PYTEST, "tests/layers/test_parity.py", outside_clone=False),
    # jax[cuda13] are several GB for a GPU; without one the tests themselves are checked.
    ". jax[cuda13] pytest": python(
        *GPU_TESTS, backend="jax", outside_clone=False, instead=("-e", ".", "jax", "pytest")
    ),
}


def find_lines() -> dict[str, tuple[str, ...]]:
    """Returns the arguments of each install line in README, CONTRIBUTING and the site's pages.

    Returns:
        {key: arguments of pip install}. The key is the arguments without "-e".
    """
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return lines_of("\n".join(page.read_text(encoding="utf-8") for page in pages))


def lines_of(text: str) -> dict[str, tuple[str, ...]]:
    """Returns the install lines of a text, as `find_lines` does."""
    found = {}
    for match in LINE.finditer(text):
        arguments = tuple(shlex.split(match[1].strip()))
        found[" ".join(word for word in arguments if word != "-e")] = arguments
    return found


def session_name(key: str) -> str:
    """Returns a name for a line that needs no quotes in a shell, e.g. "tensorflow-docs"."""
    return re.sub(r"\W+", "-", key.replace("keras==", "keras-")).strip("-")


def in_environment(command: tuple[str, ...], programs: Path, out: Path) -> list[str]:
    """Returns a command with its program from an environment, and the folder that it writes to."""
    return [str(programs / command[0]), *(part.replace("{out}", str(out)) for part in command[1:])]
