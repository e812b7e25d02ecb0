"""What a process that trains on several devices writes of it."""

import json
import os
from contextlib import nullcontext
from pathlib import Path

import distributed
import keras
import numpy as np
from distributed import BATCH, fit

SEED, EPOCHS = 3, 2


def report(*ways: str) -> None:
    """Writes what it saw to a file of this process."""
    index = json.loads(os.environ.get("TF_CONFIG", '{"task": {"index": 0}}'))["task"]["index"]
    see = on_jax if keras.backend.backend() == "jax" else on_tensorflow
    Path(f"{index}.json").write_text(json.dumps(see(*ways)))


def on_tensorflow(way: str) -> dict:
    """The losses of one device are known to pytest."""
    model, losses = distributed.WAYS[way][0]()(SEED, EPOCHS)
    weights = {}
    for variable in model.weights:
        held = getattr(variable.value, "values", (variable.value,))
        weights[variable.path] = [(x.device, x.numpy().tolist()) for x in held]
    replicas = model.distribute_strategy.num_replicas_in_sync
    return {"losses": losses, "replicas": replicas, "weights": weights}


def on_jax(*ways: str) -> dict:
    one, alone = fit(nullcontext, SEED, EPOCHS)
    trainings = {way: distributed.WAYS[way][0]() for way in ways}
    _, halves = trainings[ways[0]](SEED, EPOCHS, BATCH // 2)
    found = {way: parallel(train, one.get_weights()) for way, train in trainings.items()}
    return {"alone": alone, "halves": halves, **found}


def parallel(train, expected: list) -> dict:
    model, losses = train(SEED, EPOCHS)
    weights = {}
    for variable in model.weights:
        shards = variable.value.addressable_shards
        weights[variable.path] = [(str(s.device), s.data.tolist()) for s in shards]
    pairs = zip(model.get_weights(), expected, strict=True)
    difference = max(float(np.abs(a - b).max()) for a, b in pairs)
    rows = rows_on_devices(train, model)
    return {"losses": losses, "weights": weights, "difference": difference, "rows": rows}


def rows_on_devices(train, model) -> list:
    """The shapes of what the devices compute of one batch."""
    distribution = train.args[0].__self__  # whose scope it is
    x = distributed.adding(SEED)[0][:BATCH]
    with distribution.scope():
        x = keras.distribution.distribute_tensor(x, distribution.get_data_layout(x.shape))
        return [shard.data.shape for shard in model(x).addressable_shards]
