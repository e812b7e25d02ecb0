"""One model on one device and on several, in one process or more: the losses are the same.

A small LSTM without forget gate learns to add the two marked numbers of a sequence, first on one
device and then as --how says, on the same global batches:

    one             on one device alone
    mirrored        tf.distribute.MirroredStrategy, through fit
    workers         tf.distribute.MultiWorkerMirroredStrategy, in a loop of its own: fit fails there
                    for any Keras 3 model (github.com/keras-team/keras/issues/20585)
    data_parallel   keras.distribution.DataParallel on JAX: each device takes a share of the batch
    model_parallel  keras.distribution.ModelParallel on JAX: each device holds a share of the units

Without GPUs it uses two CPU devices; for `workers`, two processes on this machine.

    pip install ".[tensorflow,jax]"
    python examples/distributed.py --how mirrored            # under a minute
    python examples/distributed.py --how workers --smoke     # a few updates

On several machines start the same command on each, with the same addresses and its own index, from
0; the first address must be free there and reachable from the others. For `workers`:

    TF_CONFIG='{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]},
                "task": {"type": "worker", "index": 0}}'

For `data_parallel` and `model_parallel`:

    KERAS_DISTRIBUTION_JOB_ADDRESSES=10.0.0.1:2222,10.0.0.2:2222
    KERAS_DISTRIBUTION_NUM_PROCESSES=2
    KERAS_DISTRIBUTION_PROCESS_ID=0
"""

import argparse
import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from contextlib import nullcontext
from functools import partial

import extras  # noqa: F401 - names what to install if a package is missing
import numpy as np

TIME, UNITS, BATCH, UPDATES = 20, 16, 32, 16  # updates in an epoch


def prepare(backend):
    """Sets the backend. Keras reads it once, so the functions below import Keras, not the file."""
    os.environ["KERAS_BACKEND"] = backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if backend == "jax":
        two = "--xla_force_host_platform_device_count=2"  # CPU devices; GPUs stay as they are
        os.environ["XLA_FLAGS"] = f"{two} {os.environ.get('XLA_FLAGS', '')}"


def adding(seed):
    """Returns sequences of numbers and marks (N, T, 2), and the sums of the marked ones (N, 1)."""
    rng = np.random.default_rng(seed)
    numbers = rng.uniform(-1, 1, (UPDATES * BATCH, TIME))
    marks = rng.permuted(np.tile(np.arange(TIME) < 2, (len(numbers), 1)), axis=1)
    x = np.stack([numbers, marks], axis=-1)
    return x.astype("float32"), np.sum(numbers * marks, axis=1, keepdims=True).astype("float32")


def build(seed):
    """Returns the model, with the same weights for the same seed."""
    import keras

    import keras_gated as kg

    keras.utils.set_random_seed(seed)
    layers = kg.GatedLSTM(UNITS, forget_gate=False, name="lstm"), keras.layers.Dense(1)
    model = keras.Sequential([keras.Input((TIME, 2)), *layers])
    # jit_compile stays "auto": Keras cannot use XLA under tf.distribute, and "auto" takes care.
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model


def fit(scope, seed, epochs, batch=BATCH, rows=slice(None)):
    """Trains a model built inside `scope()`; returns it and the loss of each epoch.

    Args:
        rows: the part of each batch for this process, slice(index, None, processes); default all.
    """
    x, y = (a[rows] for a in adding(seed))
    with scope():
        model = build(seed)
        done = model.fit(x, y, batch // (rows.step or 1), epochs, shuffle=False, verbose=0)
    return model, done.history["loss"]


def loop(strategy, seed, epochs, batch=BATCH):
    """Does the same as `fit` without `Model.fit`: each worker takes its share of every batch."""
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices(adding(seed)).batch(batch)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    data = strategy.experimental_distribute_dataset(data.with_options(options))
    with strategy.scope():
        model = build(seed)
        model.optimizer.build(model.trainable_variables)

    def step(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum((model(x, training=True) - y) ** 2) / batch  # of the global batch
        gradients = tape.gradient(loss, model.trainable_variables)
        model.optimizer.apply(gradients)  # their sum over the workers
        return loss

    @tf.function
    def update(x, y):
        return strategy.reduce("SUM", strategy.run(step, (x, y)), axis=None)

    return model, [float(np.mean([update(x, y) for x, y in data])) for _ in range(epochs)]


def mirrored():
    import tensorflow as tf

    devices = None  # all GPUs
    if not tf.config.list_physical_devices("GPU"):
        devices, (cpu,) = ["CPU:0", "CPU:1"], tf.config.list_physical_devices("CPU")
        halves = [tf.config.LogicalDeviceConfiguration() for _ in devices]
        tf.config.set_logical_device_configuration(cpu, halves)
    return partial(fit, tf.distribute.MirroredStrategy(devices).scope)


def workers():
    import tensorflow as tf

    return partial(loop, tf.distribute.MultiWorkerMirroredStrategy())


def data_parallel():
    keras, rows = on_jax()
    distribution = keras.distribution.DataParallel(auto_shard_dataset=False)
    return partial(fit, distribution.scope, rows=rows)


def model_parallel():
    """Divides each batch among the machines, and the layer's columns among a machine's devices."""
    keras, rows = on_jax()
    devices = np.reshape(keras.distribution.list_devices(), (rows.step, -1))
    mesh = keras.distribution.DeviceMesh(devices.shape, ("batch", "model"), devices)
    layout = keras.distribution.LayoutMap(mesh)
    # Each must match a whole path; one that matches none does nothing, without a warning.
    layout[".*lstm.*kernel"] = (None, "model")
    layout[".*lstm.*bias"] = ("model",)
    distribution = keras.distribution.ModelParallel(layout_map=layout, auto_shard_dataset=False)
    return partial(fit, distribution.scope, rows=rows)


def on_jax():
    """Joins the other processes, if there are any; returns Keras and the rows of this process."""
    import jax
    import keras

    if "KERAS_DISTRIBUTION_JOB_ADDRESSES" in os.environ:
        keras.distribution.initialize()
    return keras, slice(jax.process_index(), None, jax.process_count())


WAYS = {
    "one": (lambda: partial(fit, nullcontext), os.environ.get("KERAS_BACKEND", "tensorflow")),
    "mirrored": (mirrored, "tensorflow"),
    "workers": (workers, "tensorflow"),
    "data_parallel": (data_parallel, "jax"),
    "model_parallel": (model_parallel, "jax"),
}


def launch(command, count=2, limit=600, env=os.environ, **options):
    """Runs `count` workers on this machine; ends all if one fails or the time is up."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = ["{}:{}".format(*each.getsockname()) for each in sockets]
    for each in sockets:
        each.close()
    running, end = [], time.monotonic() + limit
    try:
        for index in range(count):
            config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            environment = env | {"TF_CONFIG": json.dumps(config)}
            running.append(subprocess.Popen(command, env=environment, **options))
        while None in (codes := [process.poll() for process in running]) and not any(codes):
            if time.monotonic() > end:
                raise TimeoutError(f"The workers did not end within {limit} s.")
            time.sleep(0.1)
        if any(codes):
            raise RuntimeError(f"A worker failed: exit codes {codes}.")
    finally:
        for process in running:
            process.kill()
            process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--how", choices=WAYS, default="one")
    parser.add_argument("--smoke", action="store_true", help="two epochs instead of ten")
    parser.add_argument("--seed", type=int, default=0, help="of the data and the weights")
    options = parser.parse_args()
    if options.how == "workers" and "TF_CONFIG" not in os.environ:
        return launch([sys.executable, *sys.argv])

    make, backend = WAYS[options.how]
    if importlib.util.find_spec(backend) is None:
        sys.exit(
            f"--how {options.how} runs on Keras's backend {backend}, and the package {backend} is "
            f'not installed. Install it with: pip install ".[{backend}]"'
        )
    prepare(backend)
    train = make()  # first: devices cannot be split, nor processes joined, after something has run
    setting = options.seed, 2 if options.smoke else 10
    _, alone = fit(nullcontext, *setting)
    _, losses = train(*setting)
    print("epoch  one device  " + options.how)
    for epoch, pair in enumerate(zip(alone, losses, strict=True), 1):
        print("{:5}  {:10.7f}  {:.7f}".format(epoch, *pair))
    print(f"largest difference: {np.max(np.abs(np.subtract(alone, losses))):.1e}")


if __name__ == "__main__":
    main()
