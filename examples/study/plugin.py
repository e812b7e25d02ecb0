"""Tasks and cells of your own: a file that the option --plugin names.

The file is Python. It is loaded before the options --cells and --tasks are read. It registers

    cells with `keras_gated.presets.add(name, title, spec, paper=...)`,
    tasks with `add_task(name, read, score=..., outputs=..., unit=...)`, of this module.

examples/study_plugin.py is such a file, with one of each. A run is identified by the specification
of its cell and by all numbers of its task, so a change in the file makes other runs, and results of
what was there before are not used again.
"""

import argparse
import hashlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path

import numpy as np

from study import tasks
from study.identity import data_text
from study.memory import nats, squared_error
from study.task import Part, Task
from study.training import Run, train

PARTS = "train", "valid", "test"
__all__ = ["add_task", "load_plugin", "nats", "split", "squared_error"]


def add_task(
    name: str,
    read: Callable[[Path | None], Mapping[str, tuple]],
    *,
    score: Callable,
    outputs: int,
    unit: str,
    accuracy: bool = False,
    floors: Callable[[], dict[str, float]] = dict,
    **settings,
) -> None:
    """Registers a task: data and a score. `--tasks NAME` then chooses it.

    Args:
        name: of the task.
        read: function of the folder --data (None if it is not given). It returns {"train": part,
            "valid": part, "test": part}, each part (sequences, targets): a list of arrays (T, F),
            and either a list of arrays (T, ...), a target for each time step, or an array (N, ...),
            a target for each sequence. It must give the same numbers at each call: seed it.
        score: function of targets (..., K) or class numbers (...), and predictions (..., outputs),
            which returns (...), less is better, with `keras.ops`: `nats` (for logits of classes),
            `squared_error`, or your own. It is the loss, too.
        outputs: width of the dense layer behind the cell.
        unit: of the score, such as "nats".
        accuracy: whether targets are class numbers of which the share of right answers is reported.
        floors: function that returns name -> test score of models without a cell.
        **settings: of the runs, as `training.Run` has them: epochs, patience, batch_size, ...

    Raises:
        ValueError: if another task has the name, or `Run` has no such setting.
    """
    if name in tasks.TASKS:
        raise ValueError(
            f"Argument `name` must be that of a new task. Received: name={name!r}, which exists."
        )
    free = {"optimizer", "last_rate", "weight_noise", "epochs", "patience", "batch_size"}
    free |= {"buckets", "excerpt", "compiled"}
    if unknown := set(settings) - free:
        raise ValueError(
            f"Settings of a task must be among {sorted(free)}. Received: {sorted(unknown)}."
        )
    given = {"outputs": outputs, "score": score, "unit": unit, "accuracy": accuracy}
    tasks.TASKS[name] = partial(_build, name, read, {**given, "floors": floors})
    tasks.SETTINGS[name] = settings


def _build(name: str, read: Callable, given: dict, folder: Path | None) -> Task:
    found = read(folder)
    if not isinstance(found, Mapping) or set(found) != set(PARTS):
        names = sorted(found) if isinstance(found, Mapping) else type(found).__name__
        raise ValueError(
            f"The function `read` of task {name!r} must return a dictionary with the keys "
            f"{list(PARTS)}. Received: {names}."
        )
    return Task(name, **{part: _part(name, part, *found[part]) for part in PARTS}, **given)


def _part(task: str, part: str, sequences, targets) -> Part:
    """Returns a part of the data, as float32 sequences, after checks that say what is wrong."""
    sequences = [np.asarray(sequence, np.float32) for sequence in sequences]
    if problem := _problem(sequences, targets):
        raise ValueError(f"Part {part!r} of task {task!r} must have {problem}.")
    return Part(sequences, list(targets) if _each_step(targets) else np.asarray(targets))


def _each_step(targets) -> bool:
    return isinstance(targets, list | tuple)


def _problem(sequences: list[np.ndarray], targets) -> str | None:
    """Returns what a part must have, and what it has instead; None if all is well."""
    wrong = [x.shape for x in sequences if x.ndim != 2 or not len(x)]
    widths = sorted({x.shape[-1] for x in sequences if x.ndim == 2})
    if not sequences or wrong or len(widths) != 1:
        received = f"{len(sequences)} sequences, F {widths}, of wrong shape {wrong[:3]}"
        return f"sequences (T, F) with T > 0 and the same F. Received: {received}"
    if not all(np.isfinite(x).all() for x in sequences):
        return "finite numbers. Received: NaN or infinite ones"
    if len(targets) != len(sequences):
        return f"a target for each of {len(sequences)} sequences. Received: {len(targets)}"
    if _each_step(targets) and any(
        np.shape(y)[:1] != x.shape[:1] for x, y in zip(sequences, targets, strict=True)
    ):
        return (
            "a target for each time step, since the targets are a list. Received: other lengths. "
            "One target for each sequence is an array: np.array(targets)"
        )
    return None


def split(sequences, targets, seed: int = 0) -> dict[str, tuple]:
    """Returns three fifths of the sequences to train, one fifth each to validate and test.

    The sequences are shuffled with the seed before.
    """
    order = np.random.default_rng(seed).permutation(len(sequences))
    ends = [3 * len(order) // 5, 4 * len(order) // 5]
    found = {}
    for part, rows in zip(PARTS, np.split(order, ends), strict=True):
        chosen = [targets[row] for row in rows]
        chosen = chosen if _each_step(targets) else np.array(chosen)
        found[part] = [sequences[row] for row in rows], chosen
    return found


# ------------------------------------------------------------------------------ loading the file


@cache
def load_plugin(path: Path) -> None:
    """Runs a plugin's file, once in a process. It can import modules that lie beside it."""
    if not path.is_file():
        raise FileNotFoundError(f"--plugin must name a Python file. Received: {path}.")
    name = f"plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None:
        raise ValueError(f"--plugin must name a Python file, NAME.py. Received: {path}.")
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    sys.path.append(str(path.parent))
    spec.loader.exec_module(module)


def add_plugin_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--plugin", type=Path, help="your file that registers tasks and cells: study/plugin.py"
    )


def load_plugin_option(arguments: list[str] | None = None) -> None:
    """Loads the file that --plugin names, before other options are read: they may need it."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add_plugin_option(parser)
    known, _ = parser.parse_known_args(arguments)
    if known.plugin:
        try:
            load_plugin(known.plugin.resolve())
        except FileNotFoundError as error:
            parser.error(str(error))


def train_with(plugin: Path | None, run: Run, data: Path | None) -> dict:
    """Carries out a run in a process that may not have loaded the plugin yet.

    Raises:
        ValueError: if the plugin's task has other numbers here than where the run was planned.
    """
    if plugin:
        load_plugin(plugin)
        here = data_text(tasks.load(run.task, data, run.small))
        if run.data and run.data != here:
            raise ValueError(
                f"Task {run.task!r} must have the same numbers in every process. Received: data "
                f"{here}, planned with {run.data}. Use a seed in the function `read` of "
                f"{plugin.name}."
            )
    return train(run, data)
