"""One part of `python -m benchmarks.gpu`, in a process of its own.

    python -m benchmarks.gpu_parts PART SEED [--smoke]

prints each result as a line of its own, so that nothing is lost where the process is ended.
"""

import argparse
import json
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import keras
import numpy as np

from benchmarks.contenders import AT_ONCE, ON_CUDNN, contenders
from benchmarks.gpu_device import PRECISIONS, gpu, precision, runtime
from benchmarks.gpu_report import MARK, ON_TENSORFLOW
from benchmarks.measure import interleaved, medians, seconds
from benchmarks.others import TORCH
from benchmarks.run import COMPARED
from benchmarks.sizes import (
    GPU_ABLATIONS,
    GPU_COMPILE,
    GPU_LINEAR,
    GPU_SIZES,
    GPU_SMOKE,
    IN_16_BITS,
    TINY,
    TORCH_LOOP,
    Size,
)
from keras_gated.speed.adapters import BACKEND, Contender, compiled

FIRST = "TF32"  # the precision in which what is measured in one alone is measured


class Plan(NamedTuple):
    """How much is measured: `rank` of the matrices that the ceilings are measured with."""

    sizes: tuple[Size, ...] = GPU_SIZES
    compiled: tuple[Size, ...] = GPU_COMPILE
    rank: int = 8192
    repeats: int = 15
    seconds: float = 3.0
    seed: int = 0


def tell(*path: str, value) -> None:
    """Prints a result and where it belongs."""
    print(MARK + json.dumps([path, value]), flush=True)


# Times ------------------------------------------------------------------------------------------


def times(
    plan: Plan, names: Iterable[str], ablations: tuple = (), *, pairs=None, suffix: str = ""
) -> None:
    """Measures training steps and inference.

    Args:
        plan: how much.
        names: of contenders.
        ablations: more of them, see `contenders`.
        pairs: precisions and sizes; by default all.
        suffix: what is put behind each name in the tables.
    """
    only = {*names, *ablations}
    for kind, size in pairs or [(kind, size) for kind in PRECISIONS for size in plan.sizes]:
        print(f"{kind} {size}", flush=True)
        with precision(kind):
            # The layer goes its own way there without a word.
            fits = {n for n in only if kind != "bfloat16" or not n.endswith(ON_CUDNN)}
            make = partial(contenders, size, plan.seed, ablations, only=fits)
            _measure(plan, kind, size, make, suffix)
        keras.backend.clear_session()


def _measure(plan: Plan, kind: str, size: Size, make: Callable[[], dict], suffix: str) -> None:
    ready, error = _tried(make)
    if error:
        tell("failed", f"{kind} {size}", value=error)
        return
    working = _warmed(ready, f"{kind} {size}: ")
    if not working:
        return
    runs = {(k, n): getattr(c, k) for n, c in working.items() for k in ("train", "infer")}
    for so_far in interleaved(runs, plan.repeats, plan.seconds):
        found: dict = {"train": {}, "infer": {}}
        for (what, name), median in so_far.items():
            found[what][name + suffix] = median
        tell("precisions", kind, "sizes", str(size), value=found)
    if BACKEND == "torch" and kind == FIRST:
        for name, contender in working.items():
            tell("memory", str(size), name + suffix, value=_peak_of_torch(contender))


def _tried(run: Callable) -> tuple:
    """What a call returned, None if it raised; and what it raised."""
    try:
        return run(), None
    except Exception as error:  # noqa: BLE001 - one that fails must not end the others
        lines = str(error).splitlines() or [""]
        return None, f"{type(error).__name__}: {lines[0]}"


def _warmed(ready: dict[str, Contender], what: str) -> dict[str, Contender]:
    """Runs each once, which compiles it; returns those that ran.

    XLA compiles on JAX several at a time; what failed may have lacked memory, and is tried alone.
    """
    workers = min(8, max(1, (os.cpu_count() or 1) // 2)) if BACKEND == "jax" else 1

    def both(contender: Contender):
        return _tried(lambda: (contender.train(), contender.infer(), None)[-1])[1]

    if workers == 1:  # here, for torch's precision is that of a thread
        errors = {name: both(contender) for name, contender in ready.items()}
    else:
        with ThreadPoolExecutor(workers) as pool:
            errors = dict(zip(ready, pool.map(both, ready.values()), strict=True))
    errors = {name: both(ready[name]) for name, error in errors.items() if error}
    for name, error in errors.items():
        if error:
            tell("failed", what + name, value=error)
    return {name: contender for name, contender in ready.items() if not errors.get(name)}


def _peak_of_torch(contender: Contender) -> int:
    """Bytes that a training step allocates above what is there before it."""
    import torch

    if not torch.cuda.is_available():
        return 0
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    contender.train()
    return torch.cuda.max_memory_allocated() - before


# The parts --------------------------------------------------------------------------------------


def ceilings(plan: Plan) -> None:
    """What the device does at best: products of large matrices, and a copy."""
    rng = np.random.default_rng(plan.seed)
    a, b = (rng.standard_normal((plan.rank, plan.rank), dtype="float32") for _ in range(2))
    for kind in PRECISIONS:
        with precision(kind):
            dtype = keras.config.dtype_policy().compute_dtype
            given = [keras.ops.convert_to_tensor(v, dtype) for v in (a, b)]
            run = compiled(keras.ops.matmul, *given)
            found = keras.ops.convert_to_numpy(keras.ops.cast(run()[:8], "float32"))
            exact = a[:8].astype("float64") @ b.astype("float64")
            error = np.linalg.norm(found - exact) / np.linalg.norm(exact)
            rate = 2 * plan.rank**3 / _median(plan, run)
            tell("ceilings", kind, value={"flops": rate, "error": float(error)})
    big = np.tile(a, (4, 1))
    copy = compiled(lambda x: 1.5 * x, keras.ops.convert_to_tensor(big))
    copy()
    tell("ceilings", "copy", value=2 * big.nbytes / _median(plan, copy))


def _median(plan: Plan, run: Callable) -> float:
    return medians({"": run}, plan.repeats, plan.seconds)[""]


def on_jax(plan: Plan) -> None:
    """Ours, Keras's, and the bare products."""
    times(plan, (*COMPARED, "bare products"), (*GPU_ABLATIONS, "keras LSTM" + ON_CUDNN))


def on_tensorflow(plan: Plan) -> None:
    """The same; what runs on cuDNN there runs without XLA."""
    cudnn = tuple(name + ON_CUDNN for name in COMPARED if name.startswith("keras"))
    times(plan, COMPARED, (*GPU_ABLATIONS, *cudnn), suffix=ON_TENSORFLOW)


def at_once(plan: Plan) -> None:
    """Cells with a linear memory, all time steps in parallel and one after another."""
    names = (*GPU_LINEAR, *(name + AT_ONCE for name in GPU_LINEAR))
    times(plan, (), names, pairs=[(FIRST, size) for size in plan.sizes])


def compilation(plan: Plan) -> None:
    """Seconds to compile a training step, over time, and bytes that it takes."""
    contenders(TINY, plan.seed, only=COMPARED[:1])[COMPARED[0]].train()  # starts the compiler
    for size in plan.compiled:
        print(f"compilation at {size}", flush=True)
        for name, contender in contenders(size, plan.seed, only=COMPARED).items():
            programs: list = []
            took = seconds(lambda c=contender, p=programs: p.append(c.compile()))
            tell("compile", str(size), name, value=took)
            if BACKEND == "jax":
                found = programs[0].memory_analysis()
                peak = found.temp_size_in_bytes + found.output_size_in_bytes
                tell("memory", str(size), name, value=peak)


def on_torch(plan: Plan) -> None:
    """torch's own layers, which run on cuDNN."""
    names, whole = TORCH, IN_16_BITS
    for size in plan.sizes:
        times(plan, names, pairs=[(kind, size) for kind in ("TF32", "float32")])
        more = [name + whole for name in names]
        times(plan, (*names, *more), pairs=[("bfloat16", size)])


def torch_loop(plan: Plan) -> None:
    """torch.compile of a loop, which it unrolls: the shortest first."""
    sizes = sorted(plan.sizes, key=lambda size: size.time)
    pairs = [(kind, size) for size in sizes for kind in ("TF32", "bfloat16")]
    times(plan, (TORCH_LOOP,), pairs=pairs)


PARTS = {
    "ceilings": ceilings,
    "torch": on_torch,
    "jax": on_jax,
    "at once": at_once,
    "compilation": compilation,
    "tensorflow": on_tensorflow,
    "torch.compile": torch_loop,
}


def main(arguments=None) -> None:
    """Runs a part."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_parts")
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("seed", type=int)
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args(arguments)
    smoke = Plan(GPU_SMOKE, GPU_SMOKE, rank=64, repeats=3, seconds=0.0, seed=options.seed)
    plan = smoke if options.smoke else Plan(seed=options.seed)
    keras.utils.set_random_seed(plan.seed)
    device = gpu()
    if not (device or options.smoke):
        tell("parts", options.part, "ended", value=f"skipped: {BACKEND} sees no GPU")
        return
    tell("parts", options.part, value={"device": device or "CPU", "runtime": runtime()})
    if BACKEND == "torch" and device:
        import torch

        torch.set_default_device("cuda")
    PARTS[options.part](plan)
    tell("parts", options.part, "ended", value="complete")


if __name__ == "__main__":
    main()
