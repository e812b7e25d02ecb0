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
At the end it writes a table of medians over the seeds and a figure.
"""

import argparse
import json
import statistics
from pathlib import Path

import extras  # noqa: F401 - names what to install if a package is missing
import keras
from rich.progress import track
from study import tasks
from study.protocol import RATE, settings
from study.training import Run, compiled, finite, rate_of, scored, training_batches

import keras_gated as kg
from keras_gated.reduction.steps import Step, after, steps_of

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

    def build(self, spec) -> keras.Model:
        """A model with new weights of this seed."""
        keras.utils.set_random_seed(self.run.seed)
        return compiled(self.task, Run(**vars(self.run) | {"cell": spec}))

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

    def smaller(self, full: keras.Model, step: Step) -> keras.Model:
        """The full model with one gate made smaller, with the weights that fit it."""
        x = training_batches(self.task, self.run)
        return kg.reduce_gates(full, {"cell": {f"{step.gate}_gate": step.becomes}}, x)


def steps(cell: str) -> list[Step]:
    """The steps that are compared."""
    return [step for step in steps_of(kg.preset(cell)) if step.title in TITLES]


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
        full = models.train(models.build(run.cell), run.epochs, rate)
        full.save_weights(file.with_suffix(".weights.h5"))
        file.touch()
        record(FULL, full)
    full = models.build(run.cell)
    full.load_weights(file.with_suffix(".weights.h5"))
    if missing(CONTROL):
        control = models.build(run.cell)
        control.set_weights(full.get_weights())
        record(CONTROL, models.train(control, models.more, rate / 2))
    for step in steps(run.cell):
        name = f"{step.gate}: {step.title}"
        if missing(name):
            model = models.smaller(full, step)
            before = models.scores(model)
            record(name, models.train(model, models.more, rate / 2), before)
        if missing(f"{name}, from the start") and step.title == "a constant a unit":
            spec = after(kg.preset(run.cell), {step.gate: step.becomes})
            scratch = models.train(models.build(spec), run.epochs, rate)
            record(f"{name}, from the start", models.train(scratch, models.more, rate / 2))


def key(line: dict) -> tuple:
    return line["task"], line["cell"], line["seed"], line["name"]


def table(lines: list[dict], task: str, cell: str) -> list[str]:
    """A table of medians over the seeds, and the range of the difference from the control."""
    chosen = [line for line in lines if (line["task"], line["cell"]) == (task, cell)]
    names = list(dict.fromkeys(line["name"] for line in chosen))
    control = {line["seed"]: line for line in chosen if line["name"] == CONTROL}
    rows = [
        f"## {cell} on {task}, {len(control)} seeds",
        "",
        "| model | weights of the cell | valid before | valid | test | valid - control |",
        "|---|---|---|---|---|---|",
    ]
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
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return [*rows, ""]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", default=["chorales"])
    parser.add_argument("--cells", nargs="+", default=["lstm", "gru"])
    parser.add_argument("--units", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, help="of the first training")
    parser.add_argument("--more", type=int, default=20, help="epochs of the training that follows")
    parser.add_argument("--out", type=Path, default=Path("gates_study"))
    parser.add_argument("--smoke", action="store_true", help="a short run")
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
    for run in track(plan, "Training"):
        carry_out(Models(run, 1 if options.smoke else options.more), folder, done)
    page = [
        line
        for run in {(r.task, r.cell): r for r in plan}.values()
        for line in table(list(done.values()), run.task, run.cell)
    ]
    (folder / "page.md").write_text("\n".join(page), encoding="utf-8")
    print("\n".join(page))


def run_of(task: str, cell: str, seed: int, options) -> Run:
    values = settings(task)
    if options.epochs:
        values |= {"epochs": options.epochs}
    if options.smoke:
        values |= {"epochs": 1, "small": 4}
    units = 6 if options.smoke else options.units
    return Run(task=task, cell=cell, units=units, seed=seed, learning_rate=RATE, **values)


if __name__ == "__main__":
    main()
