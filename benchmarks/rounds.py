"""Counts the rounds that Newton's method in time takes, for models trained on tasks of studies."""

import sys
from collections.abc import Iterator
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"
PRESETS = ("para_gru", "para_lstm")
TASKS = {"chorales": 40, "digits": 40}  # epochs
UNITS, RATE, ROWS = 64, 1e-2, 32


def measure_rounds(seed: int, quick: bool = False) -> Iterator[tuple]:
    """Yields (task, preset) and a dictionary of what was found, see `count_in`."""
    for task, epochs in TASKS.items():
        for preset in PRESETS:
            yield (task, preset), count_in(task, preset, seed, 1 if quick else epochs)


def count_in(task_name: str, preset: str, seed: int, epochs: int) -> dict:
    """Trains a model and counts rounds on test data, before and after.

    Returns:
        "steps" of the data, rounds "before" and "after" (None if they did not converge), and the
        "score" on test data with its "unit", before and after.
    """
    sys.path.insert(0, str(EXAMPLES))
    import keras
    from study import identity, tasks
    from study.training import Run, compiled, scored, training_batches

    import keras_gated as kg

    keras.utils.set_random_seed(seed)
    task = tasks.load(task_name)
    text = identity.spec_text(preset)
    run = Run(task_name, preset, UNITS, seed, RATE, text, optimizer="adam", batch_size=ROWS)
    model, test = compiled(task, run), scored(task.test, task, run)
    x = max((test[k][0] for k in range(len(test))), key=lambda inputs: inputs[0].shape[1])

    def look() -> dict:
        took = kg.newton_rounds(model, list(x))["cell"]
        score = model.evaluate(test, verbose=0, return_dict=True)["score"]
        return {"rounds": took.rounds if took.converged else None, "score": score}

    before = look()
    model.fit(training_batches(task, run), epochs=epochs, verbose=0)
    found = {"steps": int(x[0].shape[1]), "unit": task.unit, "epochs": epochs, "before": before}
    return found | {"after": look()}


def rounds_lines(rounds: dict) -> list[str]:
    """Returns the lines of a text and a table."""
    from benchmarks.report import table

    head = ["task, preset", "time steps"]
    head += [f"{what}, {when}" for what in ("rounds", "score") for when in ("new", "trained")]
    rows = [
        [
            f"{task}, {preset}",
            found["steps"],
            *(found[when]["rounds"] or "the loop ran" for when in ("before", "after")),
            *(f"{found[when]['score']:.3f}" for when in ("before", "after")),
        ]
        for task, presets in rounds.items()
        for preset, found in presets.items()
    ]
    tasks = [
        f"{task} ({found['unit']}, {found['epochs']} epochs)"
        for task, presets in rounds.items()
        for found in list(presets.values())[:1]
    ]
    text = (
        f"How many rounds `time_parallel=True` takes for one batch of test sequences, the longest, "
        f"with {UNITS} units, before and after training: {', '.join(tasks)}. A round computes all "
        "time steps at once, so that it can be fast where a few rounds are enough."
    )
    return [text, "", *table(head, rows)]
