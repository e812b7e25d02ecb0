"""`plot_gates` and `plot_memory`: figures of gate traces, drawn with matplotlib."""

from typing import Any

import numpy as np

from keras_gated.inspection.traces import GATES, Trace, half_life, saturation
from keras_gated.installation import install_hint

LARGEST = float(np.finfo("float32").max)
TITLES = {"candidate": "candidate", "c": "memory c", "n": "normaliser n", "m": "stabiliser m"}
TITLES |= {"h": "output h"} | {name: f"{name} gate" for name in GATES}


def plot_gates(trace: Trace, layer: str | None = None, row: int = 0) -> Any:
    """Draws the gates of a layer over time, and how often each is open or closed.

    For each gate, the candidate, the memory and the output there are two panels. On the left: a
    heat map (units x time steps) of one sequence. On the right: the distribution over all
    sequences, time steps and units, with the shares of a gate's values below 0.1 and above 0.9. A
    gate that goes above 1, but not below 0, has a logarithmic scale in both.

    Args:
        trace: a gate trace, from `trace_gates`.
        layer: name of a layer in the trace; by default the first.
        row: the sequence of the batch that the heat maps show.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: if there is no such layer or row.
        ImportError: if matplotlib is missing.

    Example:
        >>> trace = kg.trace_gates(kg.GatedGRU(8), np.ones((2, 5, 3), "float32"))
        >>> kg.plot_gates(trace).savefig("gates.png")
    """
    layer, values = _choose_layer(trace, layer)
    if not -len(values["h"]) <= row < len(values["h"]):
        raise ValueError(
            f"Argument `row` must be the number of one of the {len(values['h'])} traced sequences. "
            f"Received: row={row}."
        )
    figure = new_figure(figsize=(10.0, 1.5 * len(values) + 0.6))
    figure.suptitle(f"{layer}, sequence {row}")
    panels = figure.subplots(len(values), 2, width_ratios=(4, 1), squeeze=False)
    for (map_axes, axes), (name, value) in zip(panels, values.items(), strict=True):
        # An exponential gate may be infinite. In 64 bits, its range is not.
        value = np.clip(value.astype("float64"), -LARGEST, LARGEST)
        valid = value[~np.isnan(value)]
        drawn = _range_of(name in GATES, valid)
        _draw_map(figure, map_axes, name, value[row], drawn)
        _draw_shares(axes, name, valid, drawn)
    for axes in panels[:-1, 0]:
        axes.tick_params(labelbottom=False)
    panels[-1, 0].set_xlabel("time step")
    return figure


def plot_memory(trace: Trace) -> Any:
    """Draws the half-life of the memory of each unit, for each layer with a forget gate.

    The half-life is the number of time steps in which half of the memory is forgotten, on average
    over all traced sequences. Units are sorted by it. A grey line marks the sequences' length.

    Args:
        trace: a gate trace, from `trace_gates`.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: if no layer has a forget gate.
        ImportError: if matplotlib is missing.

    Example:
        >>> trace = kg.trace_gates(kg.GatedGRU(8), np.ones((2, 5, 3), "float32"))
        >>> kg.plot_memory(trace).savefig("memory.png")
    """
    forget = {name: values["forget"] for name, values in trace.items() if "forget" in values}
    if not forget:
        raise ValueError(
            "Argument `trace` must have a layer with a forget gate that is not constant. "
            f"Received: {', '.join(f'{k} with {list(v)}' for k, v in trace.items())}."
        )
    figure = new_figure(figsize=(7.0, 4.0))
    axes = figure.subplots()
    for name, value in forget.items():
        lives = np.sort(half_life(value))
        forever = np.isinf(lives).mean()
        label = f"{name} ({forever:.0%} for ever)" if forever else name
        axes.plot(np.linspace(0.0, 1.0, len(lives)), lives, ".-", label=label)
    for steps in sorted({value.shape[1] for value in forget.values()}):
        axes.axhline(steps, color="0.6", linewidth=1)
        axes.annotate("length of the sequences", (0.0, steps), color="0.4", va="bottom")
    axes.set(yscale="log", xlabel="share of the units", ylabel="half-life, time steps")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure


def _choose_layer(trace: Trace, layer: str | None) -> tuple[str, dict[str, np.ndarray]]:
    layer = next(iter(trace)) if layer is None else layer
    if layer not in trace:
        raise ValueError(
            f"Argument `layer` must be a layer of the trace: {', '.join(map(repr, trace))}. "
            f"Received: layer={layer!r}."
        )
    return layer, trace[layer]


def new_figure(**options) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            f"Figures need the package 'matplotlib', which cannot be imported ({error}). Install "
            f"it with {install_hint('plot')}."
        ) from error
    return Figure(layout="constrained", **options)


def _range_of(gate: bool, values: np.ndarray) -> tuple[float, float, str]:
    """The range in which values are drawn, and the scale: "linear" or "log"."""
    low, high = values.min(initial=0.0), values.max(initial=0.0)
    if not gate or low < 0.0:
        limit = max(-low, high) or 1.0
        return -limit, limit, "linear"
    if high <= 1.0:
        return 0.0, 1.0, "linear"
    least = values[values > 0.0].min()
    return (least, high, "log") if least < high else (high / 2.0, 2.0 * high, "log")


def _draw_map(figure, axes, name: str, value: np.ndarray, drawn: tuple[float, float, str]) -> None:
    """Draws a heat map: units upwards, time steps to the right, masked time steps grey."""
    low, high, scale = drawn
    axes.set_facecolor("0.85")
    layout = {"aspect": "auto", "origin": "lower", "interpolation": "nearest"}
    colours = "RdBu_r" if low < 0.0 else "viridis"
    # 0 has no logarithm, and would look like a masked time step.
    value = np.maximum(value, low) if scale == "log" else value
    image = axes.imshow(value.T, colours, norm=scale, vmin=low, vmax=high, **layout)
    axes.set_ylabel(f"{TITLES[name]}\nunits")
    figure.colorbar(image, ax=axes, pad=0.01)


def _draw_shares(axes, name: str, values: np.ndarray, drawn: tuple[float, float, str]) -> None:
    """Draws the distribution of all values, with the shares of a gate's values at both ends."""
    low, high, scale = drawn
    bins: Any = 40 if low < 0.0 else np.linspace(low, high, 41)
    axes.set_xscale(scale)
    if scale == "log":
        bins, values = np.geomspace(low, high, 41), np.maximum(values, low)
    elif name in GATES and values.size:
        closed, opened = saturation(values)
        axes.set_title(f"{closed:.0%} below 0.1\n{opened:.0%} above 0.9", fontsize="small")
    axes.hist(values, bins, color="0.4")
    axes.set_yticks([])
    axes.spines[["top", "right", "left"]].set_visible(False)
