"""Writes results as a page in Markdown."""

import math

from benchmarks.sizes import RATIOS, SHARES

KINDS = {"train": "Training step", "infer": "Inference"}
COMPILED = "seconds to compile a training step"


def markdown(result: dict) -> str:
    """Returns the page of a result: machine, versions, times, ratios, compile times and memory."""
    text = (
        "Times are medians in milliseconds, measured in turns in one process. Sizes are (batch, "
        "time, inputs, units). A ratio is the time of the other layer divided by that of ours: "
        "above 1 ours is faster. XLA compiles Keras's layers and ours if the backend has it."
    )
    lines = heading("Speed, as measured", result["about"], text)
    if "sizes" in result:
        for kind, title in KINDS.items():
            lines += [
                "",
                f"## {title}",
                "",
                *times_table(result, kind),
                "",
                *ratios_table(result, kind),
            ]
        title = "Gates left out: share of the time of a training step"
        lines += ["", f"## {title}", "", *shares_table(result)]
    if "compile" in result:
        lines += ["", "## Compilation", "", *by_size_table(COMPILED, result["compile"])]
    if "memory" in result:
        lines += ["", "## Peak memory of a training step", "", *_memory(result)]
    return "\n".join(lines) + "\n"


def heading(title: str, about: dict, text: str) -> list[str]:
    """Returns the first lines of a page: the command, machine and versions, and a text."""
    remark = ["", about["remark"]] if "remark" in about else []  # added to the JSON by hand
    return [f"# {title}", "", describe_run(about), *remark, "", text]


def describe_run(about: dict) -> str:
    """Returns the command of a run, its date, machine, seed, backend and versions."""
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    run = f"`{about['command']}`, {about['date']}; {about['machine']}; seed {about['seed']}. "
    return run + f"Keras backend: {about['backend']}. {versions}."


def table(head: list, rows: list) -> list[str]:
    """Returns the lines of a table."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return ["| " + " | ".join(str(cell) for cell in line) + " |" for line in lines]


def times_table(result: dict, kind: str) -> list[str]:
    """Returns the lines of a table of milliseconds."""
    by_size = {size: times[kind] for size, times in result["sizes"].items()}
    return by_size_table("milliseconds", by_size, scale=1e3)


def by_size_table(head: str, values: dict, scale: float = 1.0) -> list[str]:
    """Returns the lines of a table from {size: {name: value}}; a missing value leaves a gap."""
    names = dict.fromkeys(name for by_name in values.values() for name in by_name)
    rows = [
        [name, *(format_number(by_name.get(name), scale, digits=1) for by_name in values.values())]
        for name in names
    ]
    return table([head, *values], rows)


def format_number(value: float | None, scale: float = 1.0, digits: int = 2) -> str:
    """Returns a number as text; an empty text for None."""
    return "" if value is None else f"{scale * value:.{digits}f}"


def ratios(result: dict, kind: str, pairs=RATIOS) -> dict[str, list[float | None]]:
    """Returns for each pair the ratio of times at each size; None if one was not measured."""
    sizes = [times[kind] for times in result["sizes"].values()]
    found = {
        f"{ours} against {theirs}": [
            times[theirs] / times[ours] if {ours, theirs} <= set(times) else None for times in sizes
        ]
        for ours, theirs in pairs
    }
    return {pair: values for pair, values in found.items() if any(values)}


def geometric_mean(values: list[float]) -> float:
    """Returns the geometric mean of positive numbers."""
    return math.exp(sum(math.log(v) for v in values) / len(values))


def ratios_table(result: dict, kind: str, pairs=RATIOS) -> list[str]:
    """Returns the lines of a table of ratios, with their mean over the measured sizes."""
    rows = [
        [pair, *map(format_number, values), f"{geometric_mean([v for v in values if v]):.2f}"]
        for pair, values in ratios(result, kind, pairs).items()
    ]
    return table(["ratio", *result["sizes"], "geometric mean"], rows)


def shares_table(result: dict) -> list[str]:
    """Returns the lines of a table: training times of cells with fewer gates, as shares."""
    times = {size: found["train"] for size, found in result["sizes"].items()}
    pairs = [(a, b) for a, b in SHARES if any({a, b} <= set(t) for t in times.values())]
    measured = {size: t for size, t in times.items() if all(a in t for a, _ in pairs)}
    rows = [
        [f"{part} of {whole}", *(f"{t[part] / t[whole]:.2f}" for t in measured.values())]
        for part, whole in pairs
    ]
    return table(["share", *measured], rows)


def _memory(result: dict) -> list[str]:
    rows = [[name, f"{peak / 2**20:.0f}"] for name, peak in result["memory"]["peak"].items()]
    return table(
        [f"MiB above the process before the step, at {result['memory']['size']}", ""], rows
    )
