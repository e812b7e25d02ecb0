"""Run where only the wheel is installed: a layer trains under XLA, exports and is checked.

python wheel_smoke.py VERSION
"""

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np

import keras_gated as kg

(version,) = sys.argv[1:]
assert kg.__version__ == metadata.version("keras-gated") == version, kg.__version__
home = Path(kg.__file__).parent
assert home.is_relative_to(sys.prefix), f"{home} is not in {sys.prefix}"
assert (home / "py.typed").is_file()

keras.utils.set_random_seed(0)
x = np.random.default_rng(0).standard_normal((4, 6, 3)).astype("float32")
layer = kg.GatedLSTM(5, forget_gate=False, return_sequences=True)
model = keras.Sequential([keras.Input((None, 3)), layer, keras.layers.Dense(2)])
model.compile("adam", "mse", jit_compile=True)
before = [w.copy() for w in model.get_weights()]
loss = model.train_on_batch(x, np.ones((4, 6, 2), "float32"))
assert np.isfinite(loss) and loss > 0, loss
for old, weight in zip(before, model.weights, strict=True):
    assert not np.array_equal(old, weight), f"{weight.path} was not trained"

model.save("model.keras")
(found,) = kg.export_onnx(model, "model.onnx").layers
assert found.operator == "LSTM", found
print(kg.check_onnx(model, "model.onnx", raise_on_failure=True))

program = Path(sys.executable).with_name("keras-gated")
for arguments in (["list"], ["check", "model.keras", "model.onnx"]):
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=True)
    assert "gru_chung" in done.stdout or "passed" in done.stdout, done.stdout
print(f"keras_gated {version} from its wheel: trained, exported, checked")
