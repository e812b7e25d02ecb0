"""Measures speed and memory of layers of keras_gated, Keras, torch and flax; writes tables."""

import argparse
import importlib.metadata
import json
import os
import platform
import shlex
import sys
import time
from importlib.util import find_spec
from pathlib import Path


def make_parser(
    module: str, text: str | None, quick: str | None, seconds: tuple
) -> argparse.ArgumentParser:
    """Returns the parser of a command, with the options that all commands have.

    Args:
        module: name of the command's module.
        text: what the command does.
        quick: what `--quick` measures; None if there is no such option.
        seconds: default of `--seconds`, and what the seconds are for.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=text)
    if quick:
        parser.add_argument("--quick", action="store_true", help=f"{quick}, under two minutes")
    parser.add_argument("--out", type=Path, default=Path("benchmark-results"), help="a folder")
    parser.add_argument("--seconds", type=float, default=seconds[0], help=f"for {seconds[1]}")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def parse_arguments(arguments=None) -> argparse.Namespace:
    """Returns the command line's arguments."""
    parser = make_parser("benchmarks", __doc__, "two sizes", (60.0, "each size, about"))
    parser.add_argument(
        "--size",
        action="append",
        metavar="B,T,F,U",
        help="batch, time, inputs, units: measure this size instead; can be repeated",
    )
    parser.add_argument(
        "--part",
        action="append",
        choices=("times", "compile", "memory"),
        help="measure only this part, and put it into the results in the folder",
    )
    parser.add_argument("--backend", choices=("tensorflow", "jax", "torch"), default="tensorflow")
    parser.add_argument(
        "--repeats", type=int, default=25, help="largest number of turns for each size"
    )
    return parser.parse_args(arguments)


def main() -> None:
    """Runs the command."""
    options = parse_arguments()
    set_up(options)
    from benchmarks.report import markdown
    from benchmarks.run import measure_all

    about = {"about": run_info(options)}
    merge_earlier(options, options.backend, about)  # refuses before anything is measured
    result = merge_earlier(options, options.backend, {**about, **measure_all(options)})
    write_and_print(options.out, options.backend, result, markdown(result))


def set_up(options) -> None:
    """Sets Keras's backend and the seed. Call it before anything imports Keras."""
    os.environ["KERAS_BACKEND"] = options.backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if find_spec(options.backend) is None:
        sys.exit(
            f"Keras's backend is to be {options.backend!r}, and that package is not installed. "
            f'Install it, in the clone, with pip install ".[{options.backend}]"'
        )
    import keras

    keras.utils.set_random_seed(options.seed)


def write_and_print(folder: Path, name: str, result: dict, page: str) -> None:
    """Writes a result as JSON and as a page, and prints the page."""
    write(folder, name, result, page)
    print(page)


def write(folder: Path, name: str, result: dict, page: str) -> None:
    """Writes a result as JSON and as a page."""
    folder.mkdir(parents=True, exist_ok=True)
    for ending, text in (("json", json.dumps(result, indent=1) + "\n"), ("md", page)):
        temporary = folder / f"{name}.{ending}.part"
        temporary.write_text(text)
        temporary.replace(folder / f"{name}.{ending}")


def merge_earlier(options, name: str, result: dict) -> dict:
    """Returns `result`; with `--part` put into the earlier results in the folder."""
    earlier = options.out / f"{name}.json"
    if not (options.part and earlier.exists()):
        return result
    before = json.loads(earlier.read_text())
    about = before["about"]
    if not is_like(about, result["about"]):
        raise SystemExit(
            f"{earlier} comes from another machine, other versions or another seed. "
            "Choose another folder with --out, or measure all parts again."
        )
    about["command"] += f"`, then `{result['about']['command']}"
    return {**before, **result, "about": about}


def is_like(run: dict, other: dict) -> bool:
    """Returns whether two runs have the same machine, versions and seed."""
    return all(run[key] == other[key] for key in ("machine", "versions", "seed"))


def run_info(options, module: str = "benchmarks") -> dict:
    """Returns what a page says of a run: command, date, machine, backend, seed and versions."""
    names = ("keras", "tensorflow", "tensorflow-cpu", "jax", "flax", "torch", "numpy")
    names += ("onnxruntime", "tf2onnx") if module != "benchmarks" else ()
    versions = {"python": platform.python_version()}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "command": shlex.join(["python", "-m", module, *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} processors, {platform.machine()}, {_processor()}",
        "backend": options.backend,
        "seed": options.seed,
        "versions": versions,
    }


def _processor() -> str:
    file = Path("/proc/cpuinfo")  # on Linux
    lines = file.read_text().splitlines() if file.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown processor"


if __name__ == "__main__":
    main()
