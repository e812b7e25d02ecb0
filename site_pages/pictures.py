"""Draws the pictures of README and of the first page, for light and dark pages.

    python -m site_pages.pictures              # draws from stored runs, in a second
    python -m site_pages.pictures --measure    # also trains the LSTM of gates-*.svg (examples)

Each picture is drawn from a run: docs/pictures/gates.json (made by `--measure`),
docs/results/gates_study/results.jsonl and docs/speed/tensorflow.json.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import numpy as np
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure

from site_pages.charts import DARK, LIGHT, Palette, draw_speed, style, svg_of

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "pictures"
THEMES = {"light": LIGHT, "dark": DARK}
# From closed (0) to open (1).
SHADES = {
    "light": ["#f1f5f4", "#c3ddd9", "#84bdb5", "#3b968b", "#00594f"],
    "dark": ["#20282a", "#1f4a47", "#2b766f", "#4fada3", "#b2f0e6"],
}
PANELS = {
    "forget": "Forget gate: dark where a unit keeps its memory",
    "input": "Input gate: dark where it writes",
    "output": "Output gate: dark where it shows its memory",
}
CHORALE, STEPS = 17, 64  # the chorale of the test set, and the time steps that are drawn
STUDY = {  # row of docs/results/gates_study: its label
    "no gate sees h": "no gate sees h",
    "forget: a constant a unit": "forget gate: a constant a unit",
    "output: does not see h": "output gate: does not see h",
    "input: does not see h": "input gate: does not see h",
    "input: a constant a unit": "input gate: a constant a unit",
    "input: absent": "input gate: absent",
    "output: a constant a unit": "output gate: a constant a unit",
    "output: does not see x": "output gate: does not see x",
    "output: absent": "output gate: absent",
    "forget: absent": "forget gate: absent",
}


# The runs --------------------------------------------------------------------------------------


def measure() -> dict:
    """Trains the LSTM of examples/quickstart.py with seed 0 and returns its gates on a chorale."""
    from benchmarks.__main__ import run_info

    about = run_info(SimpleNamespace(backend="tensorflow", seed=0), "site_pages.pictures")
    sys.path.insert(0, str(ROOT / "examples"))
    import quickstart as q

    import keras_gated as kg

    train, valid, test = q.split(q.read_chorales())
    longest = max(len(roll) for part in (train, valid, test) for roll in part) - 1
    whole = [q.weighted(part, longest, rows=len(part)) for part in (valid, test)]
    cut = q.weighted(train, q.STEPS, rows=q.BATCH)
    run = q.train_one("LSTM", 0, q.bias_of_keys(train), cut, *whole, q.EPOCHS)
    roll = test[CHORALE][:STEPS]
    trace = kg.trace_gates(run["model"], roll[None])["recurrent"]
    return {
        "about": about,
        "nats": run["scores"],
        "notes": [np.flatnonzero(step).tolist() for step in roll],
        "gates": {name: np.rint(100 * trace[name][0]).astype(int).tolist() for name in PANELS},
    }


def study(cell: str = "lstm") -> list[dict]:
    """Returns the runs of examples/gates_study.py with one cell on the chorales."""
    file = ROOT / "docs" / "results" / "gates_study" / "results.jsonl"
    lines = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if (line["task"], line["cell"]) == ("chorales", cell)]


def stored(file: str) -> dict:
    """Returns a JSON file in docs."""
    return json.loads((ROOT / "docs" / file).read_text(encoding="utf-8"))


def differences(lines: list[dict]) -> dict[str, list[float]]:
    """Returns by row of STUDY the validation scores minus those of the control, by seed."""
    control = {x["seed"]: x["valid"] for x in lines if x["name"] == "full, trained on"}
    rows: dict[str, list[float]] = {}
    for line in lines:
        if line["name"] in STUDY:
            gap = line["valid"] - control[line["seed"]]
            rows.setdefault(line["name"], []).append(gap)
    return {name: rows[name] for name in STUDY if name in rows}


def saved(lines: list[dict]) -> dict[str, float]:
    """Returns by row of STUDY the share of the cell's weights that is gone."""
    weights = {line["name"]: line["weights"] for line in lines}
    return {name: 1 - weights[name] / weights["full"] for name in STUDY if name in weights}


# The pictures ----------------------------------------------------------------------------------


def draw_gates(run: dict, theme: str) -> str:
    """Returns heat maps of the gates over a chorale, below its notes, as an `<svg>`."""
    palette, shades = THEMES[theme], ListedColormap(SHADES[theme])
    with matplotlib.rc_context(style(palette)):
        figure = Figure(figsize=(6.2, 5.2), layout="constrained")
        notes, *maps = figure.subplots(
            1 + len(PANELS), sharex=True, height_ratios=(0.8, *[1] * len(PANELS))
        )
        for step, keys in enumerate(run["notes"]):
            notes.hlines(keys, step - 0.5, step + 0.5, palette.second, linewidth=2.2)
        notes.set_title("What it reads: a chorale by Bach, four voices", loc="left")
        gates = {name: np.array(run["gates"][name]) / 100 for name in PANELS}
        order = gates["forget"].mean(axis=0).argsort()
        norm = BoundaryNorm(np.linspace(0, 1, len(shades.colors) + 1), len(shades.colors))
        for axes, (name, title) in zip(maps, PANELS.items(), strict=True):
            layout = {"aspect": "auto", "origin": "lower", "interpolation": "none"}
            image = axes.imshow(gates[name][:, order].T, shades, norm, **layout)
            axes.set_title(
                title if theme == "light" else title.replace("dark", "bright"), loc="left"
            )
        for axes in (notes, *maps):
            axes.set_yticks([])
            axes.tick_params(length=0)
            axes.spines[:].set_visible(False)
        maps[-1].set_xlabel("time steps (quarter notes); a row is one of 36 units")
        bar = figure.colorbar(image, ax=maps, shrink=0.4, aspect=12, pad=0.015, ticks=[0, 1])
        bar.ax.set_yticklabels(["0: closed", "1: open"])
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=0, which="both")
        return svg_of(figure)


def draw_study(lines: list[dict], theme: str) -> str:
    """Returns what an LSTM loses or gains with each gate smaller, every seed a dot."""
    palette: Palette = THEMES[theme]
    with matplotlib.rc_context(style(palette)):
        figure = Figure(figsize=(6.2, 3.5), layout="constrained")
        axes = figure.subplots()
        gaps, gone = differences(lines), saved(lines)
        side = {"transform": axes.get_yaxis_transform(), "va": "center", "ha": "right"}
        for row, (name, values) in enumerate(gaps.items()):
            colour = palette.ours if statistics.median(values) < 0.01 else palette.second
            axes.scatter(values, [row] * len(values), 22, colour, alpha=0.75, linewidths=0)
            middle = statistics.median(values)
            axes.plot([middle] * 2, [row - 0.32, row + 0.32], color=colour, linewidth=2)
            axes.text(1.0, row, f"{-gone[name]:.0%}".replace("-", "−"), **side)
        axes.text(1.0, -1, "weights", **side)
        axes.axvline(0, color=palette.ink, linewidth=0.8, linestyle="--", zorder=0)
        axes.set_yticks(range(len(gaps)), STUDY.values())
        axes.set_ylim(len(gaps) - 0.5, -1.4)
        axes.set_xlim(right=1.27 * max(max(values) for values in gaps.values()))
        axes.grid(axis="x", color=palette.grid, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        axes.annotate("better", (-0.004, -1), ha="right", va="center")
        axes.annotate("worse", (0.004, -1), ha="left", va="center")
        axes.set_xlabel(
            "validation loss minus that of the full LSTM trained as long,\n"
            "nats per time step; a dot is a seed"
        )
        return svg_of(figure)


def pictures() -> dict[str, str]:
    """Returns all pictures by the name of their file, from the stored runs."""
    run, lines, speed = stored("pictures/gates.json"), study(), stored("speed/tensorflow.json")
    drawn = {}
    for theme in THEMES:
        drawn[f"gates-{theme}.svg"] = draw_gates(run, theme)
        drawn[f"which-gate-{theme}.svg"] = draw_study(lines, theme)
        drawn[f"speed-{theme}.svg"] = draw_speed(speed, theme == "dark")
    return drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measure", action="store_true", help="train the LSTM of gates-*.svg")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder for what is written")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.measure:
        text = json.dumps(measure(), separators=(",", ":"))
        (FOLDER / "gates.json").write_text(text + "\n", encoding="utf-8")
    for name, text in pictures().items():
        (options.out / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
