"""Measures speed and memory beside Keras's, torch's and flax's layers, and writes a table."""

import argparse
import importlib.metadata
import json
import os
import platform
import shlex
import sys
import time
from pathlib import Path


def command(
    module: str, text: str | None, quick: str | None, seconds: tuple
) -> argparse.ArgumentParser:
    """Returns the parser of a command, with what all of them take.

    Args:
        module: its name.
        text: what it does.
        quick: what is left with `--quick`; None if there is no such option.
        seconds: how many by default, and for what.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=text)
    if quick:
        parser.add_argument("--quick", action="store_true", help=f"{quick}, under two minutes")
    parser.add_argument("--out", type=Path, default=Path("benchmark-results"), help="a folder")
    parser.add_argument("--seconds", type=float, default=seconds[0], help=f"for {seconds[1]}")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def parsed(arguments=None) -> argparse.Namespace:
    """Returns the command line's arguments."""
    parser = command("benchmarks", __doc__, "two sizes", (60.0, "each size, about"))
    parser.add_argument(
        "--size",
        action="append",
        metavar="B,T,F,U",
        help="batch, time, inputs, units to measure instead; can be given several times",
    )
    parser.add_argument(
        "--part",
        action="append",
        choices=("times", "compile", "memory"),
        help="measure this alone, and put it into the results that are in the folder",
    )
    parser.add_argument("--backend", choices=("tensorflow", "jax", "torch"), default="tensorflow")
    parser.add_argument("--repeats", type=int, default=25, help="turns at most for each size")
    return parser.parse_args(arguments)


def main() -> None:
    """Runs the command."""
    options = parsed()
    started(options)
    from benchmarks.report import markdown
    from benchmarks.run import measured

    result = with_earlier(options, options.backend, {"about": about(options), **measured(options)})
    written(options.out, options.backend, result, markdown(result))


def started(options) -> None:
    """Names the backend, before anything loads Keras, and sets the seed."""
    os.environ["KERAS_BACKEND"] = options.backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    keras.utils.set_random_seed(options.seed)


def written(folder: Path, name: str, result: dict, page: str) -> None:
    """Writes a result as JSON and as a page, and prints the page."""
    saved(folder, name, result, page)
    print(page)


def saved(folder: Path, name: str, result: dict, page: str) -> None:
    """Writes a result as JSON and as a page."""
    folder.mkdir(parents=True, exist_ok=True)
    for ending, text in (("json", json.dumps(result, indent=1) + "\n"), ("md", page)):
        temporary = folder / f"{name}.{ending}.part"
        temporary.write_text(text)
        temporary.replace(folder / f"{name}.{ending}")


def with_earlier(options, name: str, result: dict) -> dict:
    """With `--part`: the results of the run before in the folder, these put in."""
    earlier = options.out / f"{name}.json"
    if not (options.part and earlier.exists()):
        return result
    before = json.loads(earlier.read_text())
    about = before["about"]
    if any(about[k] != result["about"][k] for k in ("machine", "versions", "seed")):
        raise SystemExit(f"{earlier} is from another machine or from other versions.")
    about["command"] += f"`, then `{result['about']['command']}"
    return {**before, **result, "about": about}


def about(options, module: str = "benchmarks") -> dict:
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
    known = Path("/proc/cpuinfo")
    lines = known.read_text().splitlines() if known.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown processor"


if __name__ == "__main__":
    main()
