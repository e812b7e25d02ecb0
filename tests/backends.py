"""Writes docs/backends.md: what passes on which of Keras's backends, from the tests' own results.

    python -m tests.backends

runs the files below on TensorFlow, JAX and torch, one after another (some twenty minutes on two
cores). Not a test itself.
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

HOME = ROOT
BACKENDS = ("tensorflow", "jax", "torch")
# What a user would ask for, and the tests that say so.
ABOUT = {
    "every named cell equals the step written from its paper, forward and gradient": "test_presets",
    "the engine's gradient equals that of Keras's loop, under masks too": "test_engine",
    "the same as keras.layers.LSTM, GRU and SimpleRNN, every way to call them": "test_matrix",
    "inside Bidirectional, TimeDistributed, StackedRNNCells, keras.layers.RNN": "test_parity",
    "all time steps at once (`time_parallel`)": "test_time_parallel",
    "lengths, masks that are carried, padded batches": "test_lengths",
    "dtype policies": "test_precision",
    "saving, loading, cloning": "test_saving",
    "not numbers, extreme sizes, threads, seeds, pickling": "test_robustness",
    "input windows": "test_window",
    "zoneout, noise on weights, a bound on the memory": "test_options",
    "normalisation, a projected output, dropout of the candidate": "test_norms",
    "six random cells with random options, compiled by XLA": "test_layer_random",
    "compiled by XLA, every named cell": "test_xla",
}
WHOLE = "test_matrix", "test_xla"  # the long form too: all 128 ways to call a layer, all cells


def ran(backend: str, folder: Path) -> list[ElementTree.Element]:
    """Runs the tests on a backend; returns their results: the short form of all, then WHOLE."""
    more = {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_GATED_RANDOM": "6"}
    environment = os.environ | more
    short = [f"tests/{name}.py" for name in ABOUT.values()]
    whole = ["-m", "long", *(f"tests/{name}.py" for name in WHOLE)]
    files = [folder / f"{backend}_{form}.xml" for form in ("short", "whole")]
    for file, chosen in zip(files, (short, whole), strict=True):
        command = [sys.executable, "-m", "pytest", "-q", "-n", "auto", f"--junitxml={file}"]
        subprocess.run([*command, *chosen], cwd=HOME, env=environment, check=False)
    return [ElementTree.parse(file).getroot() for file in files]


def counted(results: list[ElementTree.Element]) -> dict[str, tuple[Counter, Counter]]:
    """By test file: how many passed, failed and were skipped; and why they were skipped."""
    found: dict = {name: (Counter(), Counter()) for name in ABOUT.values()}
    for case in chain.from_iterable(part.iter("testcase") for part in results):
        name = case.get("classname", "").split(".")[-1]
        ends, reasons = found[name]
        skipped = case.find("skipped")
        if skipped is not None:
            reasons[skipped.get("message", "")] += 1
        failed = case.find("failure") is not None or case.find("error") is not None
        ends["skipped" if skipped is not None else "failed" if failed else "passed"] += 1
    return found


def cell(ends: Counter) -> str:
    """What stands in the table."""
    return ", ".join(f"{ends[end]} {end}" for end in ("passed", "failed", "skipped") if ends[end])


def page(found: dict) -> str:
    """The page, from {backend: what `counted` returned}."""
    names = ("keras", "tensorflow", "tensorflow-cpu", "jax", "torch")
    installed = {d.metadata["Name"].replace("_", "-") for d in importlib.metadata.distributions()}
    versions = [f"{n} {importlib.metadata.version(n)}" for n in names if n in installed]
    today = time.strftime("%Y-%m-%d")
    lines = [
        "# What each backend does",
        "",
        f"As `python tests/backends.py` found it, {today}: {', '.join(versions)}.",
        "Where a test can, TensorFlow has float64; JAX and torch have float32.",
        "",
        "| | " + " | ".join(found) + " |",
        "| --- |" + " --- |" * len(found),
    ]
    lines += [
        f"| {about} | " + " | ".join(cell(found[b][name][0]) for b in found) + " |"
        for about, name in ABOUT.items()
    ]
    lines += ["", "Left out, and why:", ""]
    for backend, files in found.items():
        for name, (_, reasons) in files.items():
            lines += [f"- {backend}, {name}: {n} x {why}" for why, n in reasons.items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HOME / "docs" / "backends.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = {backend: counted(ran(backend, Path(folder))) for backend in BACKENDS}
    options.out.write_text(page(found))
    print(options.out.read_text())


if __name__ == "__main__":
    main()
