"""Training on several devices loses what one device loses, on the same batches.

`examples/distributed.py` trains. Devices are split and processes joined before anything is
computed, so each way runs in processes of its own.
"""

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from importlib.util import find_spec

import distributed
import keras
import numpy as np
import pytest
from distributed import BATCH, TIME, UNITS, fit

from tests import ROOT
from tests.examples.on_devices import EPOCHS, SEED
from tests.helpers import raises

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="names its backends itself"
)

LIMIT = 300  # seconds
COLUMNS = 3 * UNITS  # input gate, candidate, output gate


ON_JAX = "data_parallel", "model_parallel"


def program(backend: str, *ways: str) -> list[str]:
    """The command that reports on some ways; on JAX no TensorFlow is needed, nor found."""
    lines = (
        "import sys, distributed",
        f"distributed.prepare({backend!r})",
        "sys.modules['tensorflow'] = None" if backend == "jax" else "",
        "from tests.examples import on_devices",
        f"on_devices.report(*{ways!r})",
    )
    return [sys.executable, "-c", "\n".join(lines)]


def place(folder) -> dict:
    """For a process: where it runs and what it finds there."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "examples"), *filter(None, sys.path)])
    return {"cwd": folder, "env": os.environ | {"PYTHONPATH": paths}}


def ran(folder, backend: str, *ways: str) -> dict:
    if not find_spec(backend):
        pytest.skip(f"{backend} is not installed")
    command = program(backend, *ways)
    done = subprocess.run(command, **place(folder), timeout=LIMIT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "0.json").read_text())


def follows(losses, expected) -> bool:
    """Whether two curves are the same to 1e-5."""
    losses, expected = np.array(losses), np.array(expected)
    return bool(np.all(np.abs(losses - expected) <= 1e-5 * np.maximum(1, np.abs(expected))))


@pytest.fixture(scope="module")
def alone() -> list:
    """The losses of one device on TensorFlow."""
    return fit(nullcontext, SEED, EPOCHS)[1]


@pytest.mark.long
def test_other_batches_lose_otherwise(alone):
    assert len(alone) == EPOCHS and alone[1] < alone[0]
    assert follows(fit(nullcontext, SEED, EPOCHS)[1], alone)
    assert not follows(fit(nullcontext, SEED, EPOCHS, BATCH // 2)[1], alone)


@pytest.mark.long
def test_mirrored(alone, tmp_path):
    found = ran(tmp_path, "tensorflow", "mirrored")
    assert follows(found["losses"], alone)
    assert found["replicas"] == 2
    equal_on_two_devices(found["weights"])


@pytest.mark.long
def test_workers(alone, tmp_path):
    command = program("tensorflow", "workers")
    distributed.launch(command, limit=LIMIT, **place(tmp_path))
    found = [json.loads((tmp_path / f"{index}.json").read_text()) for index in (0, 1)]
    for worker in found:
        assert follows(worker["losses"], alone)
        assert worker["replicas"] == 2
    first, second = (worker["weights"] for worker in found)
    equal_on_two_devices({path: first[path] + second[path] for path in first})


@pytest.mark.long
def test_on_jax(tmp_path):
    found = ran(tmp_path, "jax", *ON_JAX)
    assert not follows(found["halves"], found["alone"])
    for way in ON_JAX:
        assert follows(found[way]["losses"], found["alone"])
        assert found[way]["difference"] < 1e-4  # of the weights at the end
    equal_on_two_devices(found["data_parallel"]["weights"])
    assert found["data_parallel"]["rows"] == [[BATCH // 2, 1]] * 2
    units_on_two_devices(found["model_parallel"]["weights"])
    assert found["model_parallel"]["rows"] == [[BATCH, 1]] * 2


def equal_on_two_devices(weights: dict) -> None:
    assert len(weights) == 5
    for path, held in weights.items():
        (one, values), (other, same) = held
        assert one != other, path
        assert values == same, path


def units_on_two_devices(weights: dict) -> None:
    shapes = {path.split("/", 1)[1]: [np.shape(x) for _, x in weights[path]] for path in weights}
    assert shapes["lstm/gated_cell/kernel"] == [(2, COLUMNS // 2)] * 2
    assert shapes["lstm/gated_cell/recurrent_kernel"] == [(UNITS, COLUMNS // 2)] * 2
    assert shapes["lstm/gated_cell/bias"] == [(COLUMNS // 2,)] * 2
    assert all(len({device for device, _ in held}) == 2 for held in weights.values())


def test_workers_are_ended_when_one_fails(tmp_path):
    """Worker 1 fails; worker 0, which would wait for ever, is ended."""
    code = (
        "import json, os, pathlib, sys, time\n"
        "config = json.loads(os.environ['TF_CONFIG'])\n"
        "index = config['task']['index']\n"
        "pathlib.Path(f'{index}.json').write_text(json.dumps([os.getpid(), config]))\n"
        "while not pathlib.Path('0.json').exists(): time.sleep(0.01)\n"
        "sys.exit(7) if index else time.sleep(600)\n"
    )
    with pytest.raises(RuntimeError, match=r"A worker failed: exit codes \[None, 7\]"):
        distributed.launch([sys.executable, "-c", code], cwd=tmp_path)
    (pid, first), (_, second) = (json.loads((tmp_path / f"{i}.json").read_text()) for i in (0, 1))
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert first["cluster"] == second["cluster"]
    addresses = first["cluster"]["worker"]
    assert len(set(addresses)) == 2 and all(a.startswith("127.0.0.1:") for a in addresses)


def test_workers_are_ended_when_the_time_is_up(tmp_path):
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    with pytest.raises(TimeoutError, match=r"did not end within 0\.5 s"):
        distributed.launch(command, limit=0.5)


def test_the_task_can_be_learnt_from():
    x, y = distributed.adding(SEED)
    assert x.shape[1:] == (TIME, 2) and y.shape == (len(x), 1)
    assert set(x[..., 1].sum(axis=1)) == {2.0}
    np.testing.assert_allclose(np.einsum("nt,nt->n", *np.moveaxis(x, 2, 0)), y[:, 0], atol=1e-6)


def test_a_missing_backend_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["distributed.py", "--how", "data_parallel"])
    monkeypatch.setattr(distributed.importlib.util, "find_spec", lambda name: None)
    text = 'data_parallel...jax is not installed...pip install ".[jax]"'
    raises(distributed.main, text, SystemExit)
