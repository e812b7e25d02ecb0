"""What must pass before a change lands, in sessions that run alone by name.

    nox -l              lists the sessions
    nox -s docs lint    runs two of them
    .ci/run             runs what must pass, from a fresh clone on

A session runs in the environment in which nox itself runs, and first installs there what it needs
and does not find. `first_steps` and `wheel` make environments of their own. What follows `--` goes
to pytest: `nox -s jax -- -n 2 -k gru`.
"""

import importlib.metadata
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import nox

ROOT = Path(__file__).parent
sys.path.insert(0, str(ROOT))  # a program does not look for modules in the current folder
from tests.first_steps import STEPS, find_lines, in_environment, session_name  # noqa: E402

PYTHON = sys.executable
PROGRAMS = Path(PYTHON).parent
TORCH = "torch==2.13.0"  # the newest that is known to pass

COMPILE = {  # the shortest program that XLA compiles
    "jax": "import jax; jax.jit(lambda x: x + 1)(1.0)",
    "tensorflow": "import tensorflow as tf; tf.function(lambda x: x + 1, jit_compile=True)(1.0)",
}

# Files of tests that say whether layers run on a backend.
LAYERS = [
    *("tests/spec/test_presets.py", "tests/engine/test_engine.py"),
    *("tests/engine/test_parallel_scan.py", "tests/layers/test_matrix.py"),
    *("tests/layers/test_parity.py", "tests/layers/test_lengths.py"),
    *("tests/layers/test_padded_batches.py", "tests/layers/test_saving.py"),
    *("tests/layers/test_precision.py", "tests/layers/test_robustness.py"),
]

nox.needs_version = ">=2024.4.15"
nox.options.default_venv_backend = "none"  # see above
nox.options.sessions = ["lint", "types"]


def names_of(*extras: str) -> set[str]:
    """Returns the names of the packages of some extras of pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = set()
    for extra in extras:
        for requirement in project["optional-dependencies"][extra]:
            name = re.match(r"[\w.-]+", requirement)[0]
            inner = re.findall(r"\[([\w,]+)\]", requirement)
            own = name == project["name"]
            names |= names_of(*inner[0].split(",")) if own else {name}
    return names


def missing(names) -> list[str]:
    """Returns those packages that are not installed."""

    def installed(name: str) -> bool:
        try:
            return bool(importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            return False

    # tensorflow-cpu is TensorFlow too
    return [n for n in names if not installed(n) and not installed(f"{n}-cpu")]


def need(session: nox.Session, *extras: str, packages=()) -> None:
    """Installs extras and packages, unless all of them are there."""
    absent = missing(re.split("==", package)[0] for package in packages)
    wanted = [package for package in packages if re.split("==", package)[0] in absent]
    if missing(names_of(*extras)):
        wanted += ["-e", f".[{','.join(extras)}]"]
    if wanted:
        session.run(PYTHON, "-m", "pip", "install", "--quiet", *wanted)


def pytest(session: nox.Session, *arguments: str, **environment: str) -> None:
    """Runs pytest."""
    command = [PYTHON, "-m", "pytest", "-q", *arguments, *session.posargs]
    session.run(*command, env={"TF_CPP_MIN_LOG_LEVEL": "2", **environment})


def compile_faster(backend: str) -> dict[str, str]:
    """Returns variables with which XLA compiles in half the time, for where numbers alone count.

    A flag that a version of XLA does not know ends the process, so it is tried first.
    """
    flags = "--xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=0"
    flag = {"XLA_FLAGS": flags}
    command = [PYTHON, "-c", COMPILE[backend]]
    tried = subprocess.run(command, env=os.environ | flag, capture_output=True)
    return flag if tried.returncode == 0 else {}


@nox.session
def tests(session: nox.Session) -> None:
    """README's test command as it stands there, which makes .venv."""
    readme = (ROOT / "README.md").read_text()
    (command,) = re.findall(r"<!-- test command -->\n```sh\n(.*?)```", readme, re.DOTALL)
    session.run("bash", "-euo", "pipefail", "-c", command)


@nox.session
def jax(session: nox.Session) -> None:
    """Layers on Keras's JAX backend."""
    need(session, "test", packages=["jax"])
    variables = {"KERAS_BACKEND": "jax", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    variables |= compile_faster("jax")
    # What is Keras's part on every backend, and ways to call a layer that `tests` has too.
    covered = [
        *("test_argument_", "block_weights", "round_trip", "some_ways and (none or elman)"),
        "inside_bidirectional and (sum or mul or ave)",
    ]
    choice = " and ".join(f"not ({names})" for names in covered)
    pytest(session, *LAYERS, "-k", choice, **variables)
    repeatable_study(session, "jax")


@nox.session
def torch(session: nox.Session) -> None:
    """Layers on Keras's torch backend, their options, and weights from torch's own."""
    need(session, "test", packages=[TORCH])
    more = ["tests/convert", "tests/layers/test_options.py", "tests/layers/test_option_errors.py"]
    pytest(session, *LAYERS, *more, KERAS_BACKEND="torch")
    repeatable_study(session, "torch")


def repeatable_study(session: nox.Session, backend: str) -> None:
    """Tests that a study's run depends on its settings alone."""
    file = "tests/examples/test_study_training.py"
    pytest(session, "-m", "long", file, "-k", "whatever_ran_before", KERAS_BACKEND=backend)


@nox.session
def random(session: nox.Session) -> None:
    """Random cells, as layers and as ONNX files: 60, or KERAS_GATED_RANDOM."""
    need(session, "test")
    variables = {"KERAS_GATED_RANDOM": os.environ.get("KERAS_GATED_RANDOM", "60")}
    variables |= compile_faster("tensorflow")
    # A process for each: TensorFlow keeps what it compiled until a process ends.
    layers = "tests/layers/test_layer_random.py"
    for file in ("tests/onnx/test_export_random.py", layers, "tests/onnx/test_soak.py"):
        pytest(session, "-m", "long or not long", file, **variables)


@nox.session
def examples(session: nox.Session) -> None:
    """The examples in their short form, a notebook, and what README shows."""
    need(session, "test")
    files = ["tests/examples/test_examples.py", "tests/examples/test_notebooks.py"]
    files += ["tests/docs/test_readme.py", "tests/conformance"]
    # One task of slim_model.py, and no notebook that does what README does: `all_long` has all.
    pytest(session, "-m", "long", *files, "-k", "not (smaller and chorales) and not which_gate")


@nox.session
def studies(session: nox.Session) -> None:
    """Studies on all engines, and training on several devices."""
    need(session, "test", "cluster", packages=["jax"])
    files = sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("tests/examples/test_study*.py"))
    pytest(session, "-m", "long", "tests/examples/test_distributed.py", *files)


@nox.session
def program(session: nox.Session) -> None:
    """The command line and the export, from processes on every backend."""
    need(session, "test", packages=["jax", TORCH])
    pytest(session, "-m", "long", "tests/cli", "tests/onnx/test_other_backends.py")
    # The rest of tests/onnx that is long, all presets, is in `all_long`.
    names = "masks lowerings_and_tokens large_weight many_inputs beyond_the_presets monitor_logs"
    folders = ["tests/onnx", "tests/inspection", "tests/convert"]
    names = [*names.split(), "goes_on_learning"]
    choice = f"({' or '.join(names)}) and not every_preset and not test_other_backends"
    pytest(session, "-m", "long", *folders, "-k", choice)


@nox.session
def long(session: nox.Session) -> None:
    """Of what is too long for the test command: memory, speed, benchmarks, slim."""
    need(session, "test", packages=["jax"])
    files = ["tests/layers/test_robustness.py", "tests/layers/test_precision.py"]
    most = "not every_part and not files_of_a_preset and not (as_in_float32 and 1500)"
    pytest(session, "-m", "long", *files, "tests/benchmarks", "-k", most)
    chosen = "goes_on or stacked or under_masks or (large_numbers and many_steps and sigmoid)"
    more = [
        "tests/reduction",
        "tests/engine/test_large_batch.py",
        "tests/layers/test_normalizer.py",
    ]
    pytest(session, "-m", "long", *more, "-k", chosen)


@nox.session
def all_long(session: nox.Session) -> None:
    """Every test: all presets, parameter sets and ways to call a layer. It takes an hour."""
    need(session, "test", "cluster", packages=["jax", TORCH])
    pytest(session, "-m", "long or not long")


@nox.session
def wheel(session: nox.Session) -> None:
    """The wheel in an environment of its own, without the clone."""
    need(session, "test", "dev")
    pytest(session, "-m", "long", "tests/test_packaging.py")


@nox.session
def site(session: nox.Session) -> None:
    """The site is built, which runs the Python of its guides.

    In .ci/run `first_steps` does this, in an environment with the extra `docs` alone.
    """
    need(session, "docs")
    with tempfile.TemporaryDirectory() as out:
        command = [PYTHON, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", out]
        session.run(*command, env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session
def docs(session: nox.Session) -> None:
    """What the site says, and the code on its pages that `site` does not run."""
    need(session, "test", "docs")
    # The others need no mkdocs: `tests` runs them.
    file, choice = "tests/docs/test_docs.py", "not (as_it_stands and which-gate)"
    pytest(session, "-m", "long or not long", file, "-k", choice)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and format of the code."""
    need(session, "dev", packages=["ruff"])
    ruff = str(PROGRAMS / "ruff")
    session.run(ruff, "check", ".")
    session.run(ruff, "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Types of the package."""
    need(session, "test", "dev")
    pyright = [str(PROGRAMS / "pyright"), "--project", "pyproject.toml", "--pythonpath", PYTHON]
    session.run(*pyright)


LINES = {session_name(key): (key, arguments) for key, arguments in find_lines().items()}


@nox.session
@nox.parametrize("line", list(LINES), ids=list(LINES))
def first_steps(session: nox.Session, line: str) -> None:
    """An install line of a page in a fresh environment, and what the page says next."""
    key, arguments = LINES[line]
    if key not in STEPS:
        session.error(f"pip install {key}: tests/first_steps.py does not say what to run after it")
    step = STEPS[key]
    with tempfile.TemporaryDirectory() as folder:
        programs, out = Path(folder) / "env" / "bin", Path(folder) / "out"
        out.mkdir()
        session.run(PYTHON, "-m", "venv", str(programs.parent))
        install = [str(programs / "python"), "-m", "pip", "install", "--quiet", "--no-compile"]
        if step.before:
            session.run(*install, *step.before)
        session.run(*install, *(step.instead or arguments))
        environment = {
            "KERAS_BACKEND": step.backend,
            "KERAS_GATED_GPU_TESTS_ON": "cpu",
            "TF_CPP_MIN_LOG_LEVEL": "2",
        }
        for command in step.commands:
            program = in_environment(command, programs, out)
            if step.outside_clone:
                with session.chdir(out):
                    session.run(*program, env=environment)
            else:
                session.run(*program, env=environment)
