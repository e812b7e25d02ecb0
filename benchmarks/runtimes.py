"""Measures which ONNX files run, and are right, in which runtime: every preset in every form.

Each file runs in each runtime that is installed, on random inputs, from states that are not zero
where the file takes states. The outputs are compared with those of the Keras model. A run that was
interrupted goes on where it stopped: what is measured is in OUT/runtimes.part.jsonl.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.__main__ import make_parser, run_info, set_up, write_and_print

QUICK = ("lstm", "lstm_peephole", "janet", "gru_cho", "star")
TOLERANCE = 1e-4  # of |difference| / max(1, |y|)
# An input that rounds to another 8-bit number changes an output by as much as int8 itself does.
INT8_TOLERANCE = 2e-2
CHROMIUM = "onnxruntime-web in Chromium"


def parse_arguments(arguments=None) -> argparse.Namespace:
    """Returns the command line's arguments."""
    parser = make_parser("benchmarks.runtimes", __doc__, f"{len(QUICK)} presets", (0.0, "nothing"))
    parser.set_defaults(backend="tensorflow")
    return parser.parse_args(arguments)


def main() -> None:
    """Runs the command."""
    options = parse_arguments()
    set_up(options)
    import keras

    import keras_gated as kg
    from benchmarks.runtimes_report import markdown, summarize

    presets = QUICK if options.quick else tuple(kg.presets)
    options.out.mkdir(parents=True, exist_ok=True)
    part = options.out / "runtimes.part.jsonl"
    with ExitStack() as stack:
        versions, openers = find_runtimes(stack)
        rows = read_part(part, versions, options.seed)
        bar = keras.utils.Progbar(len(presets), unit_name="preset")
        for preset in presets:
            if preset not in rows:
                rows[preset] = measure_preset(preset, openers, options.seed)
                line = {"preset": preset, "rows": rows[preset]}
                with part.open("a") as file:
                    file.write(json.dumps(line) + "\n")
            bar.add(1)
    about = run_info(options, module="benchmarks.runtimes")
    about["runtimes"] = versions
    result = {"about": about, **summarize({name: rows[name] for name in presets})}
    write_and_print(options.out, "runtimes", result, markdown(result))
    part.unlink()


def read_part(part: Path, versions: dict, seed: int) -> dict[str, list]:
    """Returns the rows of an earlier run, by preset; begins a file if there is none."""
    first = {"versions": versions, "seed": seed}
    if not part.exists():
        part.write_text(json.dumps(first) + "\n")
        return {}
    head, *lines = map(json.loads, part.read_text().splitlines())
    if head != first:
        sys.exit(f"{part} is of other runtimes or another seed: {head}. Remove it, or use --out.")
    return {line["preset"]: line["rows"] for line in lines}


def find_runtimes(stack: ExitStack) -> tuple[dict[str, str], dict[str, Callable]]:
    """Returns the versions of the runtimes that are installed, and what opens a file in each."""
    from functools import partial

    from benchmarks.browser import browser_version, open_browser
    from keras_gated.onnx.runtimes import RUNTIMES
    from keras_gated.onnx.verify.runners import find_version, open_in
    from keras_gated.onnx.verify.web_process import open_web

    found = {name: find_version(name) for name in RUNTIMES}
    versions = {name: version for name, version in found.items() if version}
    openers: dict[str, Any] = {name: partial(open_in, name) for name in versions}
    if browser := browser_version():
        versions[CHROMIUM] = browser.removeprefix("Chromium ")
        openers[CHROMIUM] = partial(open_web, ask=stack.enter_context(open_browser()))
    return versions, openers


def measure_preset(preset: str, openers: dict[str, Callable], seed: int) -> list[dict]:
    """Returns a row for each file of a preset."""
    from benchmarks.runtime_files import write_files

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for file in write_files(preset, folder, seed):
            row: dict = {"kind": file.kind, "form": file.form, "opset": file.opset}
            if file.path:
                row["operator"] = file.operator
                row["results"] = {name: run(file, open_) for name, open_ in openers.items()}
            rows.append(row)
    return rows


def run(file: Any, open_: Callable) -> dict:
    """Returns what a runtime makes of a file: {"verdict", "difference" or "reason"}."""
    import numpy as np

    from keras_gated.onnx.verify.runners import first_lines

    try:
        outputs = open_(file.path)(file.feed)
    except Exception as error:  # noqa: BLE001 - that is the result
        return {"verdict": "refused", "reason": first_lines(error)}
    differences = []
    for name, y in file.expected.items():
        if outputs[name].shape != y.shape:
            return {"verdict": "wrong", "difference": None}
        scaled = np.abs(outputs[name] - y) / np.maximum(1.0, np.abs(y))
        differences.append(scaled.max())
    largest = float(np.max(differences))  # NaN if one is NaN
    right = largest <= (INT8_TOLERANCE if file.kind == "int8" else TOLERANCE)
    return {"verdict": "right" if right else "wrong", "difference": largest}


if __name__ == "__main__":
    main()
