"""Writes docs/backends.md: what passes on which of Keras's backends, from the tests' own results.

    python -m tests.backends

runs all tests of the files below, with every parameter set, on TensorFlow, JAX and torch, one after
another. Not a test itself.
"""

import argparse
import importlib.metadata
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from itertools import chain
from pathlib import Path

from tests import ROOT

BACKENDS = ("tensorflow", "jax", "torch")
# What a user would ask for, and the files of tests that answer.
QUESTIONS = {
    "every named cell equals the step written from its paper, forward and gradient": (
        "spec/test_presets",
    ),
    "the engine's gradient equals the automatic one, under masks too": ("engine/test_engine",),
    "the same as keras.layers.LSTM, GRU and SimpleRNN, every way to call them": (
        "layers/test_matrix",
    ),
    "inside Bidirectional, TimeDistributed, StackedRNNCells, keras.layers.RNN": (
        "layers/test_parity",
    ),
    "all time steps at once (`time_parallel`)": ("engine/test_parallel_scan",),
    "all time steps at once with diagonal recurrent kernels (Newton's method)": (
        "engine/test_newton",
    ),
    "sequences that begin inside a row, packed batches": (
        "engine/test_resets",
        "layers/test_packed_batches",
    ),
    "lengths, masks that are carried, padded batches": (
        "layers/test_lengths",
        "layers/test_padded_batches",
    ),
    "dtype policies": ("layers/test_precision",),
    "saving, loading, cloning": ("layers/test_saving",),
    "not numbers, extreme sizes, threads, seeds, pickling": ("layers/test_robustness",),
    "input windows": ("engine/test_input_window",),
    "zoneout, noise on weights, a bound on the memory": ("layers/test_options",),
    "normalisation, a projected output, dropout of the candidate": (
        "layers/test_norms",
        "layers/test_option_sets",
        "layers/test_option_errors",
    ),
    "six random cells with random options, compiled by XLA": ("layers/test_layer_random",),
    "compiled by XLA, every named cell": ("engine/test_xla",),
}
FILES = list(chain.from_iterable(QUESTIONS.values()))

Counts = dict[str, tuple[Counter, Counter]]  # {file: (how many ended how, why skipped)}


def run_tests(backend: str, folder: Path) -> ElementTree.Element:
    """Runs the tests on a backend and returns their results, as pytest writes them in XML."""
    more = {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_GATED_RANDOM": "6"}
    file = folder / f"{backend}.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-n", "auto", "-m", "long or not long"]
    command += [f"--junitxml={file}", *(f"tests/{name}.py" for name in FILES)]
    subprocess.run(command, cwd=ROOT, env=os.environ | more, check=False)
    return ElementTree.parse(file).getroot()


def count_results(results: ElementTree.Element) -> Counts:
    """Returns for each file how many tests passed, failed and were skipped, and why skipped."""
    counts: Counts = {name: (Counter(), Counter()) for name in FILES}
    for case in results.iter("testcase"):
        name = "/".join(case.get("classname", "").split(".")[1:])
        ends, reasons = counts[name]
        skipped = case.find("skipped")
        if skipped is not None:
            reasons[skipped.get("message", "")] += 1
        failed = case.find("failure") is not None or case.find("error") is not None
        ends["skipped" if skipped is not None else "failed" if failed else "passed"] += 1
    return counts


def format_counts(counts: Counts, files: tuple[str, ...]) -> str:
    """Returns a cell of the table: what became of the tests in some files."""
    ends = sum((counts[name][0] for name in files), Counter())
    return ", ".join(f"{ends[end]} {end}" for end in ("passed", "failed", "skipped") if ends[end])


def format_page(by_backend: dict[str, Counts]) -> str:
    """Returns the page, from what `count_results` returned for each backend."""
    names = ("keras", "tensorflow", "tensorflow-cpu", "jax", "torch")
    installed = {d.metadata["Name"].replace("_", "-") for d in importlib.metadata.distributions()}
    versions = [f"{n} {importlib.metadata.version(n)}" for n in names if n in installed]
    today = time.strftime("%Y-%m-%d")
    lines = [
        "# What each backend does",
        "",
        f"Written by `python -m tests.backends` on {today}, with {', '.join(versions)}.",
        "Where a test can, TensorFlow has float64; JAX and torch have float32.",
        "",
        "| | " + " | ".join(by_backend) + " |",
        "| --- |" + " --- |" * len(by_backend),
    ]
    lines += [
        f"| {question} | " + " | ".join(format_counts(c, f) for c in by_backend.values()) + " |"
        for question, f in QUESTIONS.items()
    ]
    lines += ["", "Skipped, and why:", ""]
    for backend, counts in by_backend.items():
        for name, (_, reasons) in counts.items():
            lines += [f"- {backend}, tests/{name}.py: {n} x {why}" for why, n in reasons.items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "backends.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        by_backend = {b: count_results(run_tests(b, Path(folder))) for b in BACKENDS}
    options.out.write_text(format_page(by_backend))
    print(options.out.read_text())


if __name__ == "__main__":
    main()
