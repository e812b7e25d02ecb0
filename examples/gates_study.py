"""Which gate can go from a trained cell? Each gate is made smaller, and the model trained on.

For each set, cell and seed a model is trained. Then each gate loses its recurrent kernel, its
kernel, or both, or it goes altogether (`keras_gated.reduce_gates`), and each smaller model is
trained for some more epochs; so is the full model, as the control. The smaller cells are also
trained from the start, to see whether it is better to train first and take away later.

    pip install ".[examples]"
    python examples/gates_study.py                     # LSTM and GRU on the chorales, 5 seeds
    python examples/gates_study.py --tasks digits adding_100 --cells lstm
    python examples/gates_study.py --smoke             # a short run

Each training is a line of --out/results.jsonl, so the same command continues after an interruption.
At the end it writes a page with a figure and a table of medians over the seeds.
"""

import argparse
import json
import statistics
from pathlib import Path

import extras  # noqa: F401 - names what to install if a package is missing
import keras
import matplotlib
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track
from study import figures, report, tasks
from study.command import command_line
from study.identity import spec_text
from study.protocol import RATE, settings
from study.sheet import Sheet
from study.training import Run, compiled, finite, rate_of, scored, training_batches

import keras_gated as kg
from keras_gated.reduction.steps import after, steps_of

TITLES = ("does not see h", "does not see x", "a constant a unit", "absent")
FULL, CONTROL = "full", "full, trained on"


class Models:
    """The models of one set, cell and seed.

    Args:
        run: settings of the training.
        more: epochs of the training that follows.
        start: trained weights of the full model, or None.
    """

    def __init__(self, run: Run, more: int):
        self.run, self.more = run, more
        self.task = tasks.load(run.task, None, run.small)
        self.valid = scored(self.task.valid, self.task, run)

    def build(self, changes: dict | None = None) -> keras.Model:
        """A model with new weights of this seed; `changes` are arguments of its cell."""
        keras.utils.set_random_seed(self.run.seed)
        values = dict(changes or {})
        units = values.pop("units", self.run.units)
        spec = after(
            kg.preset(self.run.cell), {k.removesuffix("_gate"): v for k, v in values.items()}
        )
        return compiled(
            self.task,
            Run(**vars(self.run) | {"spec": json.dumps(spec.to_config()), "units": units}),
        )

    def train(self, model: keras.Model, epochs: int, rate: float) -> keras.Model:
        """Trains a model; the weights of the epoch with the best validation score stay."""
        keras.utils.set_random_seed(self.run.seed)
        run = Run(**vars(self.run) | {"epochs": epochs, "learning_rate": rate, "last_rate": 0.1})
        best = keras.callbacks.EarlyStopping(
            "val_score", mode="min", patience=run.patience, restore_best_weights=True
        )
        model.fit(
            training_batches(self.task, run),
            epochs=epochs,
            validation_data=self.valid,
            callbacks=[rate_of(run), best],
            verbose=0,
        )
        return model

    def scores(self, model: keras.Model) -> dict[str, float]:
        """The scores on the validation and the test set."""
        parts = {"valid": self.task.valid, "test": self.task.test}
        return {
            name: finite(
                model.evaluate(scored(part, self.task, self.run), verbose=0, return_dict=True)[
                    "score"
                ]
            )
            for name, part in parts.items()
        }

    def smaller(self, full: keras.Model, changes: dict) -> keras.Model:
        """The full model with a smaller cell, with the weights that fit it."""
        return kg.reduce_gates(full, {"cell": changes}, training_batches(self.task, self.run))


def ways(cell: str, units: int) -> dict[str, dict]:
    """What is compared: by name, the arguments of the cell with their new values."""
    steps = [step for step in steps_of(kg.preset(cell)) if step.title in TITLES]
    found: dict[str, dict] = {f"{s.gate}: {s.title}": {f"{s.gate}_gate": s.becomes} for s in steps}
    blind = [step for step in steps if step.title == "does not see h"]
    found["no gate sees h"] = {f"{step.gate}_gate": step.becomes for step in blind}
    found["half of the units"] = {"units": units // 2}
    return found


def carry_out(models: Models, folder: Path, done: dict) -> None:
    """Trains what is not yet in the results: the full model, the control, and each smaller one."""
    run, out = models.run, folder / "results.jsonl"
    file = folder / f"{run.task}_{run.cell}_{run.seed}.keras"
    rate = run.learning_rate

    def record(name: str, model: keras.Model, before: dict | None = None) -> None:
        line = {"task": run.task, "cell": run.cell, "seed": run.seed, "name": name}
        line |= {"weights": model.get_layer("cell").count_params(), "before": before}
        line |= models.scores(model)
        done[key(line)] = line
        with out.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(line) + "\n")

    def missing(name: str) -> bool:
        return (run.task, run.cell, run.seed, name) not in done

    if missing(FULL) or not file.exists():
        full = models.train(models.build(), run.epochs, rate)
        full.save_weights(file.with_suffix(".weights.h5"))
        file.touch()
        record(FULL, full)
    full = models.build()
    full.load_weights(file.with_suffix(".weights.h5"))
    if missing(CONTROL):
        control = models.build()
        control.set_weights(full.get_weights())
        record(CONTROL, models.train(control, models.more, rate / 2))
    for name, changes in list(ways(run.cell, run.units).items())[: 2 if run.small else None]:
        if missing(name):
            model = models.smaller(full, changes)
            before = models.scores(model)
            record(name, models.train(model, models.more, rate / 2), before)
        scratch = f"{name}, from the start"
        if missing(scratch) and ("constant" in name or ":" not in name):
            model = models.train(models.build(changes), run.epochs, rate)
            record(scratch, models.train(model, models.more, rate / 2))


def key(line: dict) -> tuple:
    return line["task"], line["cell"], line["seed"], line["name"]


def table(lines: list[dict], task: str, cell: str) -> Sheet:
    """A table of medians over the seeds, and the range of the difference from the control."""
    chosen = [line for line in lines if (line["task"], line["cell"]) == (task, cell)]
    names = list(dict.fromkeys(line["name"] for line in chosen))
    control = {line["seed"]: line for line in chosen if line["name"] == CONTROL}
    rows = []
    for name in names:
        of_name = [line for line in chosen if line["name"] == name]
        before = [line["before"]["valid"] for line in of_name if line["before"]]
        gaps = [line["valid"] - control[line["seed"]]["valid"] for line in of_name]
        median = statistics.median
        cells = [
            f"{of_name[0]['weights']:,}",
            f"{median(before):.3f}" if before else "",
            *(f"{median(line[k] for line in of_name):.3f}" for k in ("valid", "test")),
            f"{median(gaps):+.3f} ({min(gaps):+.3f} to {max(gaps):+.3f})",
        ]
        rows.append([name, *cells])
    heads = ["model", "weights of the cell", "valid before", "valid", "test", "valid - control"]
    title = f"{cell} on {task}, {len(control)} seeds: medians, and the range of the difference"
    return Sheet(title, heads, rows)


def figure(lines: list[dict], task: str, cell: str) -> Figure:
    """Returns a figure: for each model the validation score minus that of the control."""
    chosen = [line for line in lines if (line["task"], line["cell"]) == (task, cell)]
    control = {line["seed"]: line["valid"] for line in chosen if line["name"] == CONTROL}
    names = [name for name in dict.fromkeys(line["name"] for line in chosen) if name != CONTROL]
    size = figures.WIDTH, 0.22 * len(names) + 0.9
    drawn = Figure(figsize=size, layout="constrained")
    axes, open_dot = drawn.subplots(), {"facecolors": "none", "edgecolors": figures.BASE}
    for row, name in enumerate(names):
        of_name = [line for line in chosen if line["name"] == name]
        gaps = [line["valid"] - control[line["seed"]] for line in of_name]
        axes.scatter(gaps, [row] * len(gaps), 14, color=figures.COLOR, zorder=3)
        axes.plot([statistics.median(gaps)] * 2, [row - 0.3, row + 0.3], color=figures.INK)
        before = [x["before"]["valid"] - control[x["seed"]] for x in of_name if x["before"]]
        axes.scatter(before, [row] * len(before), 14, **open_dot)
    axes.scatter([], [], 14, **open_dot, label="before training on")
    axes.scatter([], [], 14, color=figures.COLOR, label="trained on")
    axes.axvline(0.0, color=figures.GREY, linewidth=0.8, linestyle="--")
    axes.set_xscale("symlog", linthresh=0.1)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.margins(x=0.06)
    axes.set_xlabel("validation score minus the control's, less is better; a dot is a seed")
    drawn.legend(loc="outside upper right", ncols=2, frameon=False)
    return drawn


def write_page(lines: list[dict], folder: Path) -> None:
    """Draws the figures and writes page.md; a page that is there keeps its last paragraph."""
    pictures, sheets, path = [], [], folder / "page.md"
    with matplotlib.rc_context(figures.STYLE):
        for task, cell in dict.fromkeys((line["task"], line["cell"]) for line in lines):
            name = f"{cell}_{task}"
            figures.save(figure(lines, task, cell), folder / name)
            text = f"Validation scores of {cell} on {task}, each gate made smaller"
            pictures.append(f"![{text}]({name}.svg)\n\n{text}, minus those of the full model.")
            sheets.append(table(lines, task, cell))
    for sheet in sheets:
        Console().print(sheet.rich())
    about = report.about_of(path) if path.exists() else f"`{command_line()}`"
    report.write_page(path, "Which gate can go", about, sheets, pictures)
    print(f"Tables and figures: {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", default=["chorales"])
    parser.add_argument("--cells", nargs="+", default=["lstm", "gru"])
    parser.add_argument("--units", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, help="of the first training")
    parser.add_argument("--more", type=int, default=20, help="epochs of the training that follows")
    parser.add_argument("--out", type=Path, default=Path("results/gates_study"))
    parser.add_argument("--smoke", action="store_true", help="a short run")
    parser.add_argument("--draw", action="store_true", help="the page alone, from the results")
    options = parser.parse_args()
    folder = options.out / "smoke" if options.smoke else options.out
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "results.jsonl"
    lines = [json.loads(x) for x in file.read_text().splitlines()] if file.exists() else []
    done = {key(line): line for line in lines}
    plan = [
        run_of(task, cell, seed, options)
        for seed in range(1 if options.smoke else options.seeds)
        for cell in (options.cells[:1] if options.smoke else options.cells)
        for task in options.tasks
    ]
    for run in track([] if options.draw else plan, "Training"):
        carry_out(Models(run, 1 if options.smoke else options.more), folder, done)
    write_page(list(done.values()), folder)


def run_of(task: str, cell: str, seed: int, options) -> Run:
    values = settings(task)
    if options.epochs:
        values |= {"epochs": options.epochs}
    if options.smoke:
        values |= {"epochs": 1, "small": 4}
    units = 6 if options.smoke else options.units
    values |= {"spec": spec_text(cell), "learning_rate": RATE}
    return Run(task=task, cell=cell, units=units, seed=seed, **values)


if __name__ == "__main__":
    main()
