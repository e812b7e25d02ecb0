"""Writes the results of `python -m benchmarks.gpu` as a page in Markdown."""

from benchmarks.report import (
    COMPILED,
    KINDS,
    by_size_table,
    heading,
    ratios_table,
    table,
    times_table,
)
from benchmarks.sizes import (
    GPU_LINEAR,
    GPU_NEWTON,
    IN_16_BITS,
    JOINED,
    ONE_STEP,
    OURS,
    RATIOS,
    TORCH_LOOP,
    Size,
)

MARK = "RESULT "  # begins a line in which a part prints a result
BLOCKS = {"GatedLSTM": 4, "GatedGRU": 3}  # number of blocks in the kernels
ON_TENSORFLOW = " on TensorFlow"
# (ours, the other's), as in `RATIOS`
GPU_RATIOS = (
    *RATIOS,
    ("GatedLSTM", "keras LSTM, cuDNN"),
    ("GatedLSTM", "GatedLSTM, cuDNN"),
    ("GatedLSTM, cuDNN", "torch LSTM"),
    *((name, name + ONE_STEP) for name in OURS),
    *((name + JOINED, name) for name in OURS),
    *((name + ON_TENSORFLOW, name + ONE_STEP + ON_TENSORFLOW) for name in OURS),
    ("GatedLSTM", "torch LSTM" + IN_16_BITS),
    ("GatedGRU", "torch GRU" + IN_16_BITS),
    ("GatedLSTM", TORCH_LOOP),
    ("janet", "torch LSTM"),
    ("mgu", "torch GRU"),
    *((f"{name}, at once", name) for name in (*GPU_LINEAR, *GPU_NEWTON)),
    *((f"Gated{k}{ON_TENSORFLOW}", f"keras {k}{ON_TENSORFLOW}") for k in ("LSTM", "GRU")),
    *((f"Gated{k}{ON_TENSORFLOW}", f"keras {k}, cuDNN{ON_TENSORFLOW}") for k in ("LSTM", "GRU")),
)
TEXT = (
    "Times are medians in milliseconds. Layers of one library are measured in turns in one "
    "process; each library has its own process. Sizes are (batch, time, inputs, units). A "
    "ratio is the time of the other layer divided by that of ours: above 1 ours is faster. A "
    "gap means that nothing was measured. A row without a library's name is of Keras on JAX, "
    'or on TensorFlow if JAX is not installed. "cuDNN" is Keras\'s layer with its default '
    "arguments, or ours with use_cudnn=True; the row without it runs in a loop under XLA. In "
    "bfloat16 weights are in float32 and products in bfloat16 (Keras's mixed_bfloat16, "
    "torch's autocast), unless a row says otherwise."
)


def markdown(result: dict) -> str:
    """Returns the page."""
    lines = heading("On a GPU, as measured", result["about"], TEXT)
    if result["smoke"]:
        lines += ["", "**A run of the program itself at tiny sizes: its numbers mean nothing.**"]
    lines += ["", "## What ran", "", *_parts(result)]
    if "ceilings" in result:
        lines += ["", "## What the device does at best", "", *_ceilings(result["ceilings"])]
    for precision, measured in result.get("precisions", {}).items():
        for kind, title in KINDS.items():
            lines += ["", f"## {title}, {precision}", "", *times_table(measured, kind)]
            lines += ["", *ratios_table(measured, kind, GPU_RATIOS)]
            lines += _floors(result, precision, kind)
    if "tests" in result:
        lines += ["", "## Tests", "", *_tests(result["tests"])]
    if "kernels" in result:
        head = "kernels that a pass starts, in each loop of a training step"
        rows = [[name, ", ".join(map(str, found))] for name, found in result["kernels"].items()]
        lines += ["", "## Kernels", "", *table([head, ""], rows)]
    if "compile" in result:
        lines += ["", "## Compilation", "", *by_size_table(COMPILED, result["compile"])]
    if "memory" in result:
        head = "MiB of a training step above its data and weights, TF32"
        lines += ["", "## Memory", "", *by_size_table(head, result["memory"], 2**-20)]
    if "failed" in result:
        lines += ["", "## What failed", ""]
        lines += [f"- {what}: `{error}`" for what, error in result["failed"].items()]
    return "\n".join(lines) + "\n"


def _parts(result: dict) -> list[str]:
    keys = ("device", "runtime", "ended")
    rows = [[name, *(part.get(k, "") for k in keys)] for name, part in result["parts"].items()]
    return table(["part", *keys], rows)


def _tests(found: dict) -> list[str]:
    """How many tests of tests/gpu ended how, on each backend, and which failed."""
    kinds = ("passed", "failed", "skipped")
    rows = [[name, *(counts.get(kind, 0) for kind in kinds)] for name, counts in found.items()]
    lines = table(["tests/gpu", *kinds], rows)
    for name, counts in found.items():
        failed = counts.get("failures", {})
        lines += [f"\n- {test}, on {name}: `{error}`" for test, error in failed.items()]
    return lines


def _ceilings(found: dict) -> list[str]:
    """The rates, and the error of a product, which shows its precision."""
    rows = [
        [f"product of large matrices, {k}", f"{v['flops'] / 1e12:.1f} TFLOP/s", f"{v['error']:.1e}"]
        for k, v in found.items()
        if k != "copy"
    ]
    if "copy" in found:
        rows.append(["bytes read and written", f"{found['copy'] / 1e9:.0f} GB/s", ""])
    return table(["", "rate", "relative error"], rows)


def time_floor(
    name: str, size: Size, kind: str, flops: float, bandwidth: float, width: int
) -> tuple:
    """Returns the least seconds that the products take, and the least that moving the data takes.

    A training step takes the products of the input and of the state forward, those by the state
    backward, and the gradients of both kernels.

    Args:
        name: one of `BLOCKS`.
        size: size of the layer.
        kind: "train" or "infer".
        flops: operations per second.
        bandwidth: bytes per second.
        width: bytes of one number of the outputs.
    """
    batch, time, inputs, units = size
    columns = BLOCKS[name] * units
    weights, once = (inputs + units) * columns, 2 * batch * time * columns
    if kind == "infer":
        moved = 4 * (batch * time * inputs + weights) + width * batch * time * units
        return once * (inputs + units) / flops, moved / bandwidth
    moved = 4 * (batch * time * (inputs + units) + 2 * weights)
    return once * (2 * (inputs + units) + units) / flops, moved / bandwidth


def _floors(result: dict, precision: str, kind: str) -> list[str]:
    """The lines of a table that compares each time with its lower bound."""
    found = result.get("ceilings", {})
    if not {precision, "copy"} <= set(found):
        return []
    rates = found[precision]["flops"], found["copy"], 2 if precision == "bfloat16" else 4
    rows = []
    for size, times in result["precisions"][precision]["sizes"].items():
        for name in set(BLOCKS) & set(times[kind]):
            floors = time_floor(name, Size.read(size.strip("()")), kind, *rates)
            share = times[kind][name] / max(floors)
            rows.append([f"{name} {size}", *(f"{1e3 * v:.2f}" for v in floors), f"{share:.1f}"])
    head = ["milliseconds at least", "for the products", "for the bytes", "times as long"]
    return ["", *table(head, sorted(rows))] if rows else []
