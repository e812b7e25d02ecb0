"""What was measured as Markdown."""

import math

from benchmarks.sizes import RATIOS, SHARES

KINDS = {"train": "Training step", "infer": "Inference"}


def markdown(result: dict) -> str:
    """Returns a page with the machine and versions, times, ratios, compile time and memory."""
    text = (
        "Times are medians in milliseconds, taken in turns in one process; sizes are (batch, time, "
        "inputs, units). Ratios are times of the other by ours: above 1 ours is faster. Keras's "
        "layers and ours are compiled by XLA where the backend has it."
    )
    lines = heading("Speed, as measured", result["about"], text)
    if "sizes" in result:
        for kind, title in KINDS.items():
            lines += ["", f"## {title}", "", *_times(result, kind), "", *_ratios(result, kind)]
        title = "Gates left out: share of the time of a training step"
        lines += ["", f"## {title}", "", *_shares(result)]
    if "compile" in result:
        lines += ["", "## Compilation", "", *_compilation(result)]
    if "memory" in result:
        lines += ["", "## Peak memory of a training step", "", *_memory(result)]
    return "\n".join(lines) + "\n"


def heading(title: str, about: dict, text: str) -> list[str]:
    """Returns the first lines of a page: what was run, where, with what; and what is shown."""
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    ran = f"`{about['command']}`, {about['date']}; {about['machine']}; seed {about['seed']}. "
    return [f"# {title}", "", f"{ran}Keras backend: {about['backend']}. {versions}.", "", text]


def table(head: list, rows: list) -> list[str]:
    """Returns the lines of a table."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return ["| " + " | ".join(str(cell) for cell in line) + " |" for line in lines]


def _times(result: dict, kind: str) -> list[str]:
    sizes = result["sizes"]
    names = dict.fromkeys(name for times in sizes.values() for name in times[kind])
    rows = [
        [name, *(f"{1e3 * times[kind][name]:.1f}" for times in sizes.values())] for name in names
    ]
    return table(["milliseconds", *sizes], rows)


def ratios(result: dict, kind: str) -> dict[str, list[float]]:
    """Returns, for each pair that was measured, the ratio at each size."""
    sizes = [times[kind] for times in result["sizes"].values()]
    return {
        f"{ours} against {theirs}": [times[theirs] / times[ours] for times in sizes]
        for ours, theirs in RATIOS
        if all(theirs in times for times in sizes)
    }


def geometric_mean(values: list[float]) -> float:
    """Returns the geometric mean of positive numbers."""
    return math.exp(sum(math.log(v) for v in values) / len(values))


def _ratios(result: dict, kind: str) -> list[str]:
    rows = [
        [pair, *(f"{v:.2f}" for v in values), f"{geometric_mean(values):.2f}"]
        for pair, values in ratios(result, kind).items()
    ]
    return table(["ratio", *result["sizes"], "geometric mean"], rows)


def _shares(result: dict) -> list[str]:
    rows = [
        [
            f"{part} of {whole}",
            *(f"{t['train'][part] / t['train'][whole]:.2f}" for t in result["sizes"].values()),
        ]
        for part, whole in SHARES
        if all(part in times["train"] for times in result["sizes"].values())
    ]
    return table(["share", *result["sizes"]], rows)


def _compilation(result: dict) -> list[str]:
    rows = [
        [name, *(f"{times[name]:.1f}" for times in result["compile"].values())]
        for name in next(iter(result["compile"].values()))
    ]
    return table(["seconds to compile a training step", *result["compile"]], rows)


def _memory(result: dict) -> list[str]:
    rows = [[name, f"{peak / 2**20:.0f}"] for name, peak in result["memory"]["peak"].items()]
    return table([f"MiB above the process before it, at {result['memory']['size']}", ""], rows)
