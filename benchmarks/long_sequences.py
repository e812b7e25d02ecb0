"""Measures long sequences: time and peak memory of a training step; rounds of Newton's method.

Each layer runs at each length in a process of its own, which is ended after `--limit` seconds; the
layer's longer sequences are then left out. The rounds are those of trained models, for test data
(`rounds.py`). The page is written again after each result.

    python -m benchmarks.long_sequences --out docs/speed
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

from benchmarks.__main__ import make_parser, merge_earlier, run_info, set_up, write
from benchmarks.measure import peak
from benchmarks.report import heading, table
from benchmarks.sizes import Size

NAME = "long_sequences"
BATCH, INPUTS, UNITS = 4, 32, 64
LENGTHS = (1024, 4096, 16384, 65536)
PARALLEL = ("min_gru", "para_gru", "para_lstm")
BOTH = tuple(name + end for name in PARALLEL for end in ("", ", at once"))
LAYERS = ("keras LSTM", "GatedLSTM", *BOTH)
PARTS = ("times", "rounds")


def parse_arguments(arguments=None) -> argparse.Namespace:
    """Returns the command line's arguments."""
    seconds = (5.0, "the training steps of a layer at a length, after the first")
    parser = make_parser(f"benchmarks.{NAME}", __doc__, "one length", seconds)
    parser.add_argument("--backend", choices=("tensorflow", "jax"), default="tensorflow")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds of a process")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this part")
    return parser.parse_args(arguments)


def main() -> None:
    """Runs the command."""
    options = parse_arguments()
    set_up(options)
    result = {"about": run_info(options, module=f"benchmarks.{NAME}")}
    result = merge_earlier(options, NAME, result) | {"limit": options.limit}
    for part in options.part or PARTS:
        result[part] = {}
        for path, found in (measure_times if part == "times" else measure_rounds)(options):
            result[part].setdefault(path[0], {})[path[1]] = found
            write(options.out, NAME, result, markdown(result))
    print(markdown(result))


def measure_times(options):
    """Yields (length, layer) and the seconds and bytes of a training step, or None if too long."""
    import keras

    lengths, too_long = LENGTHS[: 1 if options.quick else None], set()
    bar = keras.utils.Progbar(len(lengths) * len(LAYERS), unit_name="layer")
    for length in lengths:
        for name in LAYERS:
            found = None if name in too_long else measure_in_new_process(name, length, options)
            too_long |= set() if found else {name}
            yield (str(length), name), found
            bar.add(1)


def measure_rounds(options):
    """Yields (task, preset) and the rounds of Newton's method for trained models."""
    from benchmarks.rounds import measure_rounds as rounds

    yield from rounds(options.seed, quick=options.quick)


def measure_in_new_process(name: str, length: int, options: argparse.Namespace) -> dict | None:
    """Returns seconds and bytes of a training step; None if it ran out of time or memory."""
    numbers = [str(length), str(options.seconds), str(options.seed)]
    command = [sys.executable, "-m", f"benchmarks.{NAME}", "--one", name, *numbers]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, timeout=options.limit, check=True)
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
        print(f"{name}, {length} time steps: {error}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def measure_one(name: str, length: str, seconds: str, seed: str) -> dict:
    """Returns the median seconds of a training step, and the memory that the process took for it.

    The first step compiles and does not count. The memory is the peak minus the peak before it.
    """
    from benchmarks.contenders import make_contenders

    size = Size(BATCH, int(length), INPUTS, UNITS)
    contender = make_contenders(size, int(seed), BOTH, only={name})[name]
    before = peak()
    contender.train()
    after, times, end = peak(), [], time.perf_counter() + float(seconds)
    while not times or (time.perf_counter() < end and len(times) < 25):
        start = time.perf_counter()
        contender.train()
        times.append(time.perf_counter() - start)
    return {"seconds": statistics.median(times), "bytes": after - before}


def markdown(result: dict) -> str:
    """Returns the page of a result."""
    text = (
        f"A training step with a batch of {BATCH}, {INPUTS} inputs and {UNITS} units, compiled by "
        "XLA. Each number is from a process of its own: the median time of a step after the first, "
        "and by how much the first step raised the peak of its memory. **At once**: "
        "`time_parallel=True`. A gap: at this or at a smaller length one step was not done within "
        f"{result['limit']:.0f} seconds, compilation included, or the process lacked memory."
    )
    lines = heading("Long sequences, as measured", result["about"], text)
    if result.get("times"):
        for title, key, scale, digits in (
            ("Milliseconds of a training step", "seconds", 1e3, 0),
            ("Memory of a training step, in MB", "bytes", 1e-6, 0),
        ):
            rows = _by_layer(result["times"], key, scale, digits)
            lines += ["", f"## {title}", "", *table(["layer", *_heads(result["times"])], rows)]
    if result.get("rounds"):
        from benchmarks.rounds import rounds_lines

        lines += ["", "## Rounds of Newton's method", "", *rounds_lines(result["rounds"])]
    return "\n".join(lines) + "\n"


def _heads(times: dict) -> list[str]:
    return [f"T = {int(length):,}" for length in times]


def _by_layer(times: dict, key: str, scale: float, digits: int) -> list[list[str]]:
    """Rows of a table: a layer, and its value at each length."""

    def text(found: dict | None) -> str:
        return f"{scale * found[key]:,.{digits}f}" if found else ""

    return [[name, *(text(found.get(name)) for found in times.values())] for name in LAYERS]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measure_one(*sys.argv[2:])))
    else:
        main()
