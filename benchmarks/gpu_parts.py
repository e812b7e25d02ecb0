"""Measures one part of `python -m benchmarks.gpu`, in its own process.

    python -m benchmarks.gpu_parts PART SEED [--smoke]

It prints each result as a line at once, so that no result is lost when the process is killed.
"""

import argparse
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from typing import NamedTuple

import keras
import numpy as np

from benchmarks.contenders import AT_ONCE, ON_CUDNN, make_contenders
from benchmarks.gpu_device import PRECISIONS, gpu_name, precision, runtime_versions
from benchmarks.gpu_kernels import kernels_of_loops
from benchmarks.gpu_report import MARK, ON_TENSORFLOW
from benchmarks.measure import interleaved, medians, seconds
from benchmarks.others import TORCH
from benchmarks.run import COMPARED
from benchmarks.sizes import (
    GPU_ABLATIONS,
    GPU_COMPILE,
    GPU_LINEAR,
    GPU_NEWTON,
    GPU_NEWTON_SIZES,
    GPU_SIZES,
    GPU_SMOKE,
    IN_16_BITS,
    JOINED,
    ONE_STEP,
    OURS,
    TINY,
    TORCH_LOOP,
    Size,
)
from keras_gated.engine.backends.selected import backend
from keras_gated.speed.adapters import BACKEND, Contender, compiled

FIRST = "TF32"  # the precision of what is measured in one precision only


class Plan(NamedTuple):
    """How much is measured. `rank` is the size of the matrices for the ceilings.

    `tests` chooses tests by their names, as `-k` of pytest; None for all.
    """

    sizes: tuple[Size, ...] = GPU_SIZES
    compiled: tuple[Size, ...] = GPU_COMPILE
    newton: tuple[Size, ...] = GPU_NEWTON_SIZES
    rank: int = 8192
    repeats: int = 15
    seconds: float = 3.0
    seed: int = 0
    tests: str | None = None


def print_result(*path: str, value, file=None) -> None:
    """Prints a result and its path of keys in the JSON file."""
    print(MARK + json.dumps([path, value]), flush=True, file=file)


# Times ------------------------------------------------------------------------------------------


def measure_times(
    plan: Plan, names: Iterable[str], ablations: tuple = (), *, pairs=None, suffix: str = ""
) -> None:
    """Measures training steps and inference.

    Args:
        plan: how much to measure.
        names: names of contenders.
        ablations: more names, see `contenders.make_layers`.
        pairs: pairs of a precision and a size; by default all.
        suffix: is added to each name in the tables.
    """
    only = {*names, *ablations}
    for kind, size in pairs or [(kind, size) for kind in PRECISIONS for size in plan.sizes]:
        print(f"{kind} {size}", flush=True)
        with precision(kind):
            # In bfloat16 Keras's layer silently does not use cuDNN.
            fits = {n for n in only if kind != "bfloat16" or not n.endswith(ON_CUDNN)}
            make = partial(make_contenders, size, plan.seed, ablations, only=fits)
            _measure_size(plan, kind, size, make, suffix)
        keras.backend.clear_session()


def _measure_size(plan: Plan, kind: str, size: Size, make: Callable[[], dict], suffix: str) -> None:
    contenders, error = _try(make)
    if error:
        print_result("failed", f"{kind} {size}", value=error)
        return
    working = _warm_up(contenders, f"{kind} {size}: ")
    if not working:
        return
    runs = {(k, n): getattr(c, k) for n, c in working.items() for k in ("train", "infer")}
    for so_far in interleaved(runs, plan.repeats, plan.seconds):
        found: dict = {"train": {}, "infer": {}}
        for (what, name), median in so_far.items():
            found[what][name + suffix] = median
        print_result("precisions", kind, "sizes", str(size), value=found)
    if BACKEND == "torch" and kind == FIRST:
        for name, contender in working.items():
            print_result("memory", str(size), name + suffix, value=_peak_of_torch(contender))


def _try(run: Callable) -> tuple:
    """(result, None) of a call, or (None, text of the exception)."""
    try:
        return run(), None
    except Exception as error:  # noqa: BLE001 - the others must still run
        lines = str(error).splitlines() or [""]
        return None, f"{type(error).__name__}: {lines[0]}"


def _warm_up(contenders: dict[str, Contender], where: str) -> dict[str, Contender]:
    """Runs each contender once, which compiles it, and returns those that ran.

    On JAX several are compiled at a time. One that failed is tried again alone: it may have lacked
    memory.
    """
    workers = min(8, max(1, (os.cpu_count() or 1) // 2)) if BACKEND == "jax" else 1

    def both(contender: Contender):
        return _try(lambda: (contender.train(), contender.infer(), None)[-1])[1]

    if workers == 1:  # not in another thread: torch's precision is set for this one
        errors = {name: both(contender) for name, contender in contenders.items()}
    else:
        with ThreadPoolExecutor(workers) as pool:
            errors = dict(zip(contenders, pool.map(both, contenders.values()), strict=True))
    errors = {name: both(contenders[name]) for name, error in errors.items() if error}
    for name, error in errors.items():
        if error:
            print_result("failed", where + name, value=error)
    return {name: contender for name, contender in contenders.items() if not errors.get(name)}


def _peak_of_torch(contender: Contender) -> int:
    """Bytes that a training step allocates in addition to what is allocated before it."""
    import torch

    if not torch.cuda.is_available():
        return 0
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    contender.train()
    return torch.cuda.max_memory_allocated() - before


# The parts --------------------------------------------------------------------------------------


def measure_ceilings(plan: Plan) -> None:
    """Measures what the device does at best: products of large matrices, and a copy."""
    rng = np.random.default_rng(plan.seed)
    a, b = (rng.standard_normal((plan.rank, plan.rank), dtype="float32") for _ in range(2))
    for kind in PRECISIONS:
        with precision(kind):
            dtype = keras.config.dtype_policy().compute_dtype
            tensors = [keras.ops.convert_to_tensor(v, dtype) for v in (a, b)]
            run = compiled(keras.ops.matmul, *tensors)
            found = keras.ops.convert_to_numpy(keras.ops.cast(run()[:8], "float32"))
            exact = a[:8].astype("float64") @ b.astype("float64")
            error = np.linalg.norm(found - exact) / np.linalg.norm(exact)
            rate = 2 * plan.rank**3 / _median(plan, run)
            print_result("ceilings", kind, value={"flops": rate, "error": float(error)})
    big = np.tile(a, (4, 1))
    copy = compiled(lambda x: 1.5 * x, keras.ops.convert_to_tensor(big))
    copy()
    print_result("ceilings", "copy", value=2 * big.nbytes / _median(plan, copy))


def _median(plan: Plan, run: Callable) -> float:
    return medians({"": run}, plan.repeats, plan.seconds)[""]


def measure_jax(plan: Plan) -> None:
    """Measures layers of keras_gated and of Keras, and the bare matrix products."""
    on_cudnn = ["keras LSTM" + ON_CUDNN]
    on_cudnn += ["GatedLSTM" + ON_CUDNN] if gpu_name() else []  # without a GPU it is an error
    measure_times(plan, (*COMPARED, "bare products"), (*GPU_ABLATIONS, *on_cudnn))


def measure_single_steps(plan: Plan) -> None:
    """Measures layers of keras_gated where a pass of the loop takes one time step."""
    take_together(1)
    suffix = ONE_STEP + (ON_TENSORFLOW if BACKEND == "tensorflow" else "")
    pairs = [(kind, size) for kind in ("TF32", "bfloat16") for size in plan.sizes]
    measure_times(plan, OURS, pairs=pairs, suffix=suffix)


def measure_joined_series(plan: Plan) -> None:
    """Measures them where a step reads and writes the time series of one type as one tensor."""
    backend.JOIN_SERIES = True
    pairs = [(kind, size) for kind in ("TF32", "bfloat16") for size in plan.sizes]
    measure_times(plan, OURS, pairs=pairs, suffix=JOINED)


def take_together(steps: int) -> None:
    """Sets how many time steps a pass of the loop takes on an accelerator, before it is traced."""
    backend.STEPS_TOGETHER = steps


def count_kernels(plan: Plan) -> None:
    """Counts the kernels of a training step's loops, as they are made in several ways."""
    size = plan.sizes[0]
    for steps, joined in ((1, False), (1, True), (8, False), (8, True)):
        take_together(steps)
        backend.JOIN_SERIES = joined
        for name in OURS:
            with precision(FIRST):
                program = make_contenders(size, plan.seed, only=(name,))[name].compile()
            label = f"{name}{JOINED * joined}, steps in a pass: {steps}"
            print_result("kernels", label, value=kernels_of_loops(program.as_text()))


class _Results:
    """A plugin of pytest that prints how each test ended, at once."""

    def __init__(self, out):
        self.out, self.counts = out, Counter()

    def pytest_runtest_logreport(self, report) -> None:
        if report.when == "call" or report.outcome != "passed":
            self.counts[report.outcome] += 1
            self._print_result("tests", BACKEND, value=dict(self.counts))
        if report.failed:
            reason = str(getattr(report.longrepr, "reprcrash", None) or report.longrepr)
            lines = reason.splitlines() or [""]
            path = ("tests", BACKEND, "failures", report.nodeid)
            self._print_result(*path, value=lines[0][-200:])

    def _print_result(self, *path: str, value) -> None:
        print(file=self.out)  # pytest has written dots into the line
        print_result(*path, value=value, file=self.out)


def run_tests(plan: Plan) -> None:
    """Runs tests/gpu; four tests share the GPU where pytest-xdist is installed."""
    import pytest

    arguments = ["tests/gpu", "-q", "-W", "default", "-p", "no:cacheprovider", "--tb=no"]
    arguments += ["-n", "4"] if find_spec("xdist") and plan.tests is None else []
    arguments += ["-k", plan.tests] if plan.tests else []
    # pytest puts its own file in place of the standard output while a test runs.
    with os.fdopen(os.dup(1), "w") as out:
        status = pytest.main(arguments, plugins=[_Results(out)])
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise SystemExit(int(status))


def measure_tensorflow(plan: Plan) -> None:
    """Measures the same on TensorFlow. Layers on cuDNN run without XLA there."""
    cudnn = tuple(name + ON_CUDNN for name in COMPARED if name.startswith("keras"))
    measure_times(plan, COMPARED, cudnn, suffix=ON_TENSORFLOW)


def measure_parallel(plan: Plan) -> None:
    """Measures time steps in parallel, and one after another.

    First cells with a linear memory, then nonlinear ones, by Newton's method.
    """
    for cells, sizes in ((GPU_LINEAR, plan.sizes), (GPU_NEWTON, plan.newton)):
        names = (*cells, *(name + AT_ONCE for name in cells))
        measure_times(plan, (), names, pairs=[(FIRST, size) for size in sizes])


def measure_compilation(plan: Plan) -> None:
    """Measures seconds to compile a training step for several lengths, and its memory."""
    make_contenders(TINY, plan.seed, only=COMPARED[:1])[COMPARED[0]].train()  # starts the compiler
    for size in plan.compiled:
        print(f"compilation at {size}", flush=True)
        for name, contender in make_contenders(size, plan.seed, only=COMPARED).items():
            programs: list = []
            took = seconds(lambda c=contender, p=programs: p.append(c.compile()))
            print_result("compile", str(size), name, value=took)
            if BACKEND == "jax":
                found = programs[0].memory_analysis()
                peak = found.temp_size_in_bytes + found.output_size_in_bytes
                print_result("memory", str(size), name, value=peak)


def measure_torch(plan: Plan) -> None:
    """Measures torch's own layers, which run on cuDNN."""
    names, whole = TORCH, IN_16_BITS
    for size in plan.sizes:
        measure_times(plan, names, pairs=[(kind, size) for kind in ("TF32", "float32")])
        more = [name + whole for name in names]
        measure_times(plan, (*names, *more), pairs=[("bfloat16", size)])


def measure_torch_loop(plan: Plan) -> None:
    """Measures torch.compile of a loop, which it unrolls; the shortest sequence first."""
    sizes = sorted(plan.sizes, key=lambda size: size.time)
    pairs = [(kind, size) for size in sizes for kind in ("TF32", "bfloat16")]
    measure_times(plan, (TORCH_LOOP,), pairs=pairs)


PARTS = {
    "tests": run_tests,
    "ceilings": measure_ceilings,
    "torch": measure_torch,
    "jax": measure_jax,
    "one step": measure_single_steps,
    "joined series": measure_joined_series,
    "kernels": count_kernels,
    "at once": measure_parallel,
    "compilation": measure_compilation,
    "tests on tensorflow": run_tests,
    "tensorflow": measure_tensorflow,
    "torch.compile": measure_torch_loop,
}


def main(arguments=None) -> None:
    """Runs a part."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_parts")
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("seed", type=int)
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args(arguments)
    smoke = Plan(
        *(GPU_SMOKE,) * 3, 64, repeats=3, seconds=0.0, seed=options.seed, tests="changes_every"
    )
    plan = smoke if options.smoke else Plan(seed=options.seed)
    keras.utils.set_random_seed(plan.seed)
    device = gpu_name()
    if not (device or options.smoke):
        print_result("parts", options.part, "ended", value=f"skipped: {BACKEND} sees no GPU")
        return
    print_result(
        "parts", options.part, value={"device": device or "CPU", "runtime": runtime_versions()}
    )
    if BACKEND == "torch" and device:
        import torch

        torch.set_default_device("cuda")
    PARTS[options.part](plan)
    print_result("parts", options.part, "ended", value="complete")


if __name__ == "__main__":
    main()
