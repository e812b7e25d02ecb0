"""One run: a cell is trained on a task, stopped by the validation set, scored on the test set."""

import dataclasses
import math
import statistics
import time
from functools import lru_cache
from pathlib import Path

import keras
import numpy as np
from keras import callbacks

import keras_gated as kg
from study import tasks
from study.identity import spec_from
from study.task import Part, PooledScore, Score, Task
from study.versions import versions

DIVERGED = 1e9  # the score of a run whose loss became infinite
SCORED_AT_ONCE = 32  # sequences; does not change the score


@dataclasses.dataclass(frozen=True)
class Run:
    """All settings that the numbers of a run depend on.

    Args:
        task: name in `tasks.TASKS`; `data` is the folder it is read from, if it is.
        cell: name of a preset.
        units: of the one recurrent layer.
        seed: of weights, order, noise.
        learning_rate: of RMSProp with momentum 0.9 (`optimizer="rmsprop"`) or Adam ("adam").
        spec: the cell's specification, as `identity.spec_text` returns it. The cell is built from
            it, so that a run is that of this specification, whatever has the name later.
        last_rate: the learning rate of the last epoch, as a share of the first; it falls linearly.
        weight_noise: standard deviation of the noise on the kernels in training.
        epochs: at most; `patience`: epochs without a better validation score before it stops.
        batch_size: sequences an update; `buckets`: lengths they are padded to.
        excerpt: greatest number of time steps of a sequence in training; longer ones are cut, and
            each piece begins with zero states. Scores are those of whole sequences.
        source: what `tasks.source` returns for the files that the task reads.
        data: what `identity.data_text` returns for the task.
        small: number of sequences of each part, None for all.
        compiled: whether XLA compiles the training step.
        backend, dtype: of Keras; `device`, `threads`: what `identity.surroundings` returns.
    """

    task: str
    cell: str
    units: int
    seed: int
    learning_rate: float
    spec: str
    optimizer: str = "rmsprop"
    last_rate: float = 1.0
    weight_noise: float = 0.0
    epochs: int = 200
    patience: int = 20
    batch_size: int = 8
    buckets: int = 4
    excerpt: int | None = None
    source: str = ""
    data: str = ""
    small: int | None = None
    compiled: bool = True
    backend: str = "tensorflow"
    dtype: str = "float32"
    device: str = "cpu"
    threads: str = "1"


def draw_rates(count: int, low: float = -12.0, high: float = -6.0) -> list[float]:
    """Returns learning rates exp(u), u uniform in (low, high); the defaults are the paper's."""
    drawn = np.exp(np.random.default_rng(0).uniform(low, high, count))
    return [float(f"{rate:.3g}") for rate in drawn]


def build(task: Task, run: Run) -> keras.Model:
    """Returns a model: the cell, and a dense layer whose bias starts with the task's shares."""
    inputs, lengths = keras.Input((None, task.input_dim)), keras.Input((), dtype="int32")
    layer = kg.GatedRNN(
        run.units,
        spec_from(run.spec),
        return_sequences=task.each_step,
        weight_noise=run.weight_noise,
        name="cell",
    )
    # Otherwise the model would spend hundreds of updates to learn how rare each key is.
    shares = keras.initializers.Constant(task.shares)
    reads = keras.layers.Dense(task.outputs, bias_initializer=shares)
    outputs = reads(layer(inputs, lengths=lengths))
    return keras.Model([inputs, lengths], outputs)


def compiled(task: Task, run: Run) -> keras.Model:
    """Returns the model with its loss and an optimizer that clips gradients to a norm of 1."""
    model = build(task, run)
    metrics = [PooledScore(task.score)]
    metrics += [keras.metrics.SparseCategoricalAccuracy("accuracy")] if task.accuracy else []
    options = {"rho": 0.95, "momentum": 0.9} if run.optimizer == "rmsprop" else {}
    optimizer = {"rmsprop": keras.optimizers.RMSprop, "adam": keras.optimizers.Adam}[run.optimizer]
    model.compile(
        optimizer(run.learning_rate, global_clipnorm=1.0, **options),
        Score(task.score),
        weighted_metrics=metrics,
        jit_compile=run.compiled,
    )
    model.optimizer.build(model.trainable_variables)
    return model


@lru_cache(maxsize=2)
def shared_model(task: Task, run: Run) -> keras.Model:
    """Returns a compiled model for all runs that differ only in seed and rate: XLA is slow."""
    keras.backend.clear_session()
    model = compiled(task, run)
    # On JAX and torch a model's first step reads one batch more, to build its metrics. In `fit`
    # this would change the order of the batches in the first run of a shared model, and only there.
    model.test_on_batch(*scored(task.valid, task, run)[0])
    return model


def begin(task: Task, run: Run) -> keras.Model:
    """Returns the shared model with new weights, seeds and optimizer, as this run begins."""
    model = shared_model(task, dataclasses.replace(run, seed=0, learning_rate=1.0))
    keras.utils.set_random_seed(run.seed)
    new = build(task, run)
    for variable, first in zip(model.variables, new.variables, strict=True):
        variable.assign(first)
    for variable in model.optimizer.variables:
        variable.assign(keras.ops.zeros_like(variable.value))  # JAX accepts only arrays
    model.optimizer.learning_rate = run.learning_rate
    return model


def train(run: Run, data: Path | None = None) -> dict:
    """Carries out a run; returns its settings, scores and curves, as plain numbers."""
    started = time.perf_counter()
    task = tasks.load(run.task, data, run.small)
    model, batches = begin(task, run), training_batches(task, run)
    curve = Curve()
    stop = callbacks.EarlyStopping(
        "val_score", mode="min", patience=run.patience, restore_best_weights=True
    )
    model.fit(
        batches,
        epochs=run.epochs,
        validation_data=scored(task.valid, task, run),
        callbacks=[rate_of(run), curve, stop, callbacks.TerminateOnNaN()],
        verbose=0,
    )
    return {
        "run": dataclasses.asdict(run),
        **scores(model, task, run),
        **curve.summary(len(batches)),
        "best_epoch": stop.best_epoch + 1,
        "parameters": model.get_layer("cell").count_params(),
        "seconds": round(time.perf_counter() - started, 1),
        "versions": versions(),
    }


def training_batches(task: Task, run: Run) -> kg.PaddedBatches:
    """Returns the batches of an epoch."""
    part, buckets = task.train, task.buckets(run.buckets)
    if run.excerpt and not task.each_step:
        raise ValueError(
            "Argument `excerpt` must be None for a task without a target for every time step. "
            f"Received: excerpt={run.excerpt} for {task.name!r}, which has one target for a whole "
            "sequence."
        )
    if run.excerpt:
        part, buckets = part.excerpts(run.excerpt), [run.excerpt]
    return part.batches(run.batch_size, buckets, shuffle=True, seed=run.seed)


def scored(part: Part, task: Task, run: Run) -> kg.PaddedBatches:
    """Returns the whole sequences of a part, in batches."""
    return part.batches(SCORED_AT_ONCE, task.buckets(run.buckets))


def rate_of(run: Run) -> callbacks.Callback:
    """Returns the callback that sets the learning rate of each epoch."""
    fall = (1.0 - run.last_rate) / max(1, run.epochs - 1)
    return callbacks.LearningRateScheduler(lambda at, _: run.learning_rate * (1.0 - fall * at))


def scores(model, task: Task, run: Run) -> dict:
    """Returns the scores on all three parts, each a mean over all that is not padding."""
    found = {}
    for name in ("train", "valid", "test"):
        batches = scored(getattr(task, name), task, run)
        logs = model.evaluate(batches, verbose=0, return_dict=True)
        found[name] = finite(logs["score"])
        if task.accuracy:
            found[f"{name}_accuracy"] = finite(logs["accuracy"])
    return found


def finite(score: float) -> float:
    """Returns a score with six digits; DIVERGED if it is not finite, so that ranks exist."""
    return float(f"{score:.6g}") if math.isfinite(score) else DIVERGED


class Curve(callbacks.Callback):
    """Records the scores after each epoch, and how long its updates took."""

    def __init__(self):
        super().__init__()
        self.train, self.valid, self.seconds = [], [], []

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()

    def on_test_begin(self, logs=None):
        if len(self.seconds) == len(self.valid):  # validation ends an epoch's updates
            self.seconds.append(time.perf_counter() - self.start)

    def on_epoch_end(self, epoch, logs=None):
        self.train.append(finite(logs["score"]))
        self.valid.append(finite(logs["val_score"]))

    def summary(self, updates: int) -> dict:
        """Returns the curves, and the median time of the epochs after the first, which compiles."""
        return {
            "epochs": len(self.valid),
            "updates_per_epoch": updates,
            "seconds_per_epoch": round(statistics.median(self.seconds[1:] or self.seconds), 4),
            "train_curve": self.train,
            "valid_curve": self.valid,
        }
