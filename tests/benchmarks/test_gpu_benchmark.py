"""The GPU benchmark's arithmetic and its keeping to time; how fast anything is, no test says."""

import json
import sys

import keras
import pytest

from benchmarks import gpu, gpu_device, gpu_parts
from benchmarks.contenders import AT_ONCE, ON_CUDNN, make_layers
from benchmarks.gpu_device import BACKEND
from benchmarks.gpu_kernels import kernels_of_loops
from benchmarks.gpu_report import BLOCKS, GPU_RATIOS, MARK, ON_TENSORFLOW, markdown, time_floor
from benchmarks.others import OTHERS
from benchmarks.sizes import GPU_SIZES, JOINED, ONE_STEP, OURS, TINY, Size
from keras_gated import count_flops, count_parameters, presets
from keras_gated.speed.adapters import Contender

ABOUT = {
    "command": "python -m benchmarks.gpu",
    "date": "2024-09-17",
    "machine": "a GPU; a machine",
    "backend": "as the parts say",
    "seed": 3,
    "versions": {"keras": "3.15.1"},
}
SMALL, LARGE = Size(2, 3, 4, 5), Size(3, 4, 5, 6)
RESULT = {
    "about": ABOUT,
    "smoke": False,
    "parts": {
        "jax": {"device": "a GPU", "runtime": "cuda 13", "ended": "complete"},
        "tensorflow": {"ended": "skipped: tensorflow is not installed"},
    },
    "ceilings": {"TF32": {"flops": 1e6, "error": 2.5e-4}, "copy": 1e6},
    "precisions": {
        "TF32": {
            "sizes": {
                str(SMALL): {
                    "train": {"GatedLSTM": 0.25, "keras LSTM": 0.5, "min_gru": 3.0},
                    "infer": {"GatedLSTM": 0.125, "torch LSTM": 0.1},
                },
                str(LARGE): {"train": {"GatedLSTM": 0.5}, "infer": {"GatedLSTM": 0.25}},
            }
        }
    },
    "compile": {str(SMALL): {"GatedLSTM": 1.25}},
    "memory": {str(SMALL): {"GatedLSTM": 3 * 2**20}},
    "tests": {"jax": {"passed": 7, "failed": 1, "failures": {"test_a": "differs by 1"}}},
    "kernels": {"GatedLSTM, steps in a pass: 8": [80, 56]},
    "failed": {"TF32 (2, 3, 4, 5): janet": "RuntimeError: out of memory"},
}


def test_the_page_shows_what_was_measured_and_leaves_gaps():
    page = markdown(RESULT)
    for line in (
        "`python -m benchmarks.gpu`, 2024-09-17; a GPU; a machine; seed 3.",
        "| jax | a GPU | cuda 13 | complete |",
        "| tensorflow |  |  | skipped: tensorflow is not installed |",
        "| product of large matrices, TF32 | 0.0 TFLOP/s | 2.5e-04 |",
        "## Training step, TF32",
        "| milliseconds | (2, 3, 4, 5) | (3, 4, 5, 6) |",
        "| keras LSTM | 500.0 |  |",
        "| GatedLSTM against keras LSTM | 2.00 |  | 2.00 |",
        "| GatedLSTM against torch LSTM | 0.80 |  | 0.80 |",
        "| GatedLSTM | 1.2 |",
        "| GatedLSTM | 3.0 |",
        "| jax | 7 | 1 | 0 |",
        "- test_a, on jax: `differs by 1`",
        "| GatedLSTM, steps in a pass: 8 | 80, 56 |",
        "- TF32 (2, 3, 4, 5): janet: `RuntimeError: out of memory`",
    ):
        assert line in page, line
    assert "bfloat16" not in page.partition("## What ran")[2]  # not measured, not shown
    assert "mean nothing" not in page and "mean nothing" in markdown(RESULT | {"smoke": True})


def test_the_floor_of_an_inference_is_what_the_package_counts():
    """An LSTM's step without its elementwise operations, its weights without its biases."""
    batch, time, inputs, units = SMALL
    for name, preset in (("GatedLSTM", "lstm"), ("GatedGRU", "gru")):
        products, moved = time_floor(name, SMALL, "infer", flops=1.0, bandwidth=1.0, width=2)
        elementwise = count_flops(preset, inputs, units) - products / (batch * time)
        assert 0 < elementwise < 30 * units and elementwise % units == 0
        weights = count_parameters(preset, inputs, units)
        biases = (2 if preset == "gru" else 1) * BLOCKS[name] * units
        sequences = batch * time * (4 * inputs + 2 * units)
        assert moved == 4 * (weights - biases) + sequences


def test_the_floor_of_a_training_step():
    """Written out for one step of one sequence: 2 inputs, 3 units, 12 columns."""
    products, moved = time_floor("GatedLSTM", Size(1, 1, 2, 3), "train", 1.0, 2.0, 4)
    forward, of_kernels, of_state = 2 * 12 * (2 + 3), 2 * 12 * (2 + 3), 2 * 12 * 3
    assert products == forward + of_kernels + of_state
    weights_and_gradients, x_and_upstream = 2 * 12 * (2 + 3), 2 + 3
    assert moved == 4 * (weights_and_gradients + x_and_upstream) / 2.0


def test_every_part_has_its_program_and_every_ratio_a_contender():
    assert {part.name for part in (*gpu.PARTS, *gpu.PLAN)} == set(gpu_parts.PARTS)
    assert len(set(GPU_RATIOS)) == len(GPU_RATIOS)
    ablations = [name + end for name in presets for end in ("", AT_ONCE)]
    on_cudnn = [name + ON_CUDNN for name in ("keras LSTM", "keras GRU", "GatedLSTM")]
    there = {*make_layers(TINY, tuple(on_cudnn)), *ablations}
    there |= {name + end for name in OURS for end in (ONE_STEP, JOINED)}
    there |= {*make_layers(TINY, last_too=True)}
    there |= {name for names in OTHERS.values() for name in names}
    there |= {name + ON_TENSORFLOW for name in there}
    assert {name for pair in GPU_RATIOS for name in pair} <= there
    assert {(64, 256, 512, 512), (128, 512, 1024, 1024)} == set(GPU_SIZES[:2])


def test_our_layer_on_cudnn_must_run_there():
    made = make_layers(TINY, ("GatedLSTM" + ON_CUDNN, "keras LSTM" + ON_CUDNN))
    assert made["GatedLSTM"].use_cudnn == "auto" and made["GatedLSTM, cuDNN"].use_cudnn is True
    assert made["keras LSTM, cuDNN"].use_cudnn == "auto"


def test_the_plan_fits_into_thirteen_minutes():
    """JAX first, then TensorFlow; each part by its name alone, too."""
    options = gpu.parse_arguments(["--plan"])
    parts = gpu.wanted_parts(options)
    assert options.seconds == 13 * 60 == sum(part.share for part in parts)
    first = [part.backends[0] for part in parts]
    assert first == sorted(first) and first[0] == "jax" and first[-1] == "tensorflow"
    assert gpu.parse_arguments([]).seconds == 450.0
    for arguments, names in (
        ([], [part.name for part in gpu.PARTS]),
        (["--part", "tests"], ["tests"]),
        (["--plan", "--part", "tensorflow", "--part", "jax"], ["jax", "tensorflow"]),
    ):
        assert [p.name for p in gpu.wanted_parts(gpu.parse_arguments(arguments))] == names


PROGRAM = """HloModule step

%fused (p: f32[2]) -> f32[2] {
  %p = f32[2]{0} parameter(0)
  ROOT %two = f32[2]{0} add(%p, %p)
}

%commands (p: f32[2]) -> f32[2] {
  %p.1 = f32[2]{0} parameter(0)
  %first = f32[2]{0} fusion(%p.1), kind=kLoop, calls=%fused
  ROOT %second = (f32[2]{0}, s8[4]{0}) custom-call(%first), custom_call_target="gemm"
}

%body (state: (s32[], f32[2])) -> (s32[], f32[2]) {
  %state = (s32[], f32[2]{0}) parameter(0)
  %t = s32[] get-tuple-element(%state), index=0
  %h = f32[2]{0} get-tuple-element(%state), index=1
  %next = f32[2]{0} call(%h), to_apply=%commands
  %later = s32[] fusion(%t), kind=kLoop, calls=%fused
  ROOT %result = (s32[], f32[2]{0}) tuple(%later, %next)
}

%condition (state: (s32[], f32[2])) -> pred[] {
  %state.1 = (s32[], f32[2]{0}) parameter(0)
  ROOT %goes = pred[] fusion(%state.1), kind=kLoop, calls=%fused
}

ENTRY %main (x: (s32[], f32[2])) -> (s32[], f32[2]) {
  %x = (s32[], f32[2]{0}) parameter(0)
  %copied = (s32[], f32[2]{0}) copy(%x)
  ROOT %loop = (s32[], f32[2]{0}) while(%copied), condition=%condition, body=%body
}
"""


def test_kernels_of_a_loop():
    """A fusion is one; what a call of commands holds counts, what a fusion holds does not."""
    assert kernels_of_loops(PROGRAM) == [3]
    part = "f32[2]{0}"
    long = f"({', '.join([part] * 5)}, /*index=5*/{part})"  # as XLA writes long tuples
    wide = PROGRAM.replace(f"%first = {part} fusion", f"%first = {long} fusion")
    assert wide != PROGRAM and kernels_of_loops(wide) == [3]
    assert kernels_of_loops(PROGRAM.replace("while(", "conditional(").replace("body=", "x=")) == []


def test_parts_share_what_time_is_left(monkeypatch):
    there = {"jax": object()}
    monkeypatch.setattr(gpu, "find_spec", there.get)
    parts = [
        gpu.Part("a", ("jax",), 1.0),
        gpu.Part("b", ("torch",), 5.0),
        gpu.Part("c", ("tensorflow", "jax"), 3.0),
    ]
    assert [part.backend for part in parts] == ["jax", None, "jax"]
    assert gpu.seconds_of_first(parts, 100.0) == 25.0  # b is not installed and takes nothing
    assert gpu.seconds_of_first(parts[2:], 90.0) == 90.0
    assert gpu.seconds_of_first(parts, -1.0) == 0.0


def test_results_are_put_where_they_belong():
    result = {"a": {"b": 1}}
    gpu.merge(result, ["a"], {"c": {"d": 2}})
    gpu.merge(result, ["a", "c", "e"], 3)
    gpu.merge(result, ["f"], {"train": {}})
    assert result == {"a": {"b": 1, "c": {"d": 2, "e": 3}}, "f": {"train": {}}}


def child(tmp_path, text: str, seconds: float = 60.0) -> tuple[str, list]:
    """How a program of this text ended, and what it put."""
    program, put = tmp_path / "program.py", []
    program.write_text(f"import json, subprocess, sys, time\nMARK = {MARK!r}\n{text}")
    command = [sys.executable, str(program)]
    return gpu.run(command, "jax", seconds, lambda *given: put.append(given)), put


@pytest.mark.long
def test_a_part_that_takes_too_long_keeps_what_it_measured(tmp_path):
    """With what it started, which would hold its output open."""
    text = """
print(MARK + json.dumps([["a", "b"], 1.5]), flush=True)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
time.sleep(600)
"""
    assert child(tmp_path, text, seconds=10.0) == ("cut off after 10 seconds", [(["a", "b"], 1.5)])


def test_a_part_that_fails_keeps_what_it_measured(tmp_path, capsys):
    text = "print('at work')\nprint(MARK + json.dumps([['a'], 2]))\nsys.exit(3)\n"
    assert child(tmp_path, text) == ("failed with exit status 3", [(["a"], 2)])
    assert capsys.readouterr().out == "  at work\n"
    assert child(tmp_path, "") == ("complete", [])


def test_what_is_not_installed_is_left_out(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "find_spec", lambda name: None)
    gpu.main(["--out", str(tmp_path), "--part", "jax", "--part", "ceilings"])
    result = json.loads((tmp_path / "gpu.json").read_text())
    assert result["parts"] == {
        "ceilings": {"ended": "skipped: jax or tensorflow is not installed"},
        "jax": {"ended": "skipped: jax is not installed"},
    }
    assert (tmp_path / "gpu.md").read_text() + "\n" == capsys.readouterr().out


def reported(capsys, *arguments: str) -> dict:
    """What a part says."""
    gpu_parts.main([*arguments, "0"])
    result: dict = {}
    for line in capsys.readouterr().out.splitlines():
        if line.startswith(MARK):
            gpu.merge(result, *json.loads(line.removeprefix(MARK)))
    return result


def test_without_a_gpu_nothing_is_measured(capsys, monkeypatch):
    monkeypatch.setattr(gpu_parts, "gpu_name", lambda: None)
    ended = {"ended": f"skipped: {BACKEND} sees no GPU"}
    assert reported(capsys, "ceilings") == {"parts": {"ceilings": ended}}


@pytest.mark.long
@pytest.mark.skipif(BACKEND == "torch", reason="torch does not compile by XLA")
def test_a_part_tried_on_the_cpu(capsys, monkeypatch):
    monkeypatch.setattr(gpu_parts, "GPU_LINEAR", ("min_gru",))
    monkeypatch.setattr(gpu_parts, "GPU_NEWTON", ("para_gru",))
    result = reported(capsys, "at once", "--smoke")
    assert "failed" not in result
    (times,) = result["precisions"]["TF32"]["sizes"].values()
    for kind in ("train", "infer"):
        ran = {name + end for name in ("min_gru", "para_gru") for end in ("", AT_ONCE)}
        assert set(times[kind]) == ran
        assert all(v > 0 for v in times[kind].values())
    assert result["parts"]["at once"]["ended"] == "complete"


@pytest.mark.long
@pytest.mark.skipif(BACKEND != "jax", reason="a part that JAX runs")
def test_the_tests_report_as_they_end(tmp_path, monkeypatch):
    """Also how one failed: here each is run on a CPU that it is to take for a GPU."""
    monkeypatch.setenv("KERAS_GATED_GPU_TESTS_ON", "cpu")
    gpu.main(["--smoke", "--part", "tests", "--out", str(tmp_path)])
    result = json.loads((tmp_path / "gpu.json").read_text())
    assert result["parts"]["tests"]["ended"] == "complete"
    assert result["tests"]["jax"] == {"passed": 1}


def test_what_fails_does_not_end_the_others(capsys):
    def fail():
        raise RuntimeError("out of memory\nat length")

    ready = {"a": Contender(lambda: None, lambda: None), "b": Contender(lambda: None, fail)}
    assert list(gpu_parts._warm_up(ready, "TF32: ")) == ["a"]
    reported = json.loads(capsys.readouterr().out.removeprefix(MARK))
    assert reported == [["failed", "TF32: b"], "RuntimeError: out of memory"]


@pytest.mark.parametrize("kind", gpu_device.PRECISIONS)
def test_a_precision_is_left_as_it_was_found(kind):
    """Also where what is measured in it fails."""
    before = keras.config.dtype_policy().name, gpu_device._tf32_switch()[0]
    with pytest.raises(RuntimeError), gpu_device.precision(kind):
        found = keras.config.dtype_policy().name, gpu_device._tf32_switch()[0]
        assert found == (gpu_device.PRECISIONS[kind], kind != "float32")
        raise RuntimeError
    assert before == (keras.config.dtype_policy().name, gpu_device._tf32_switch()[0])


@pytest.mark.long
@pytest.mark.parametrize("part", [part.name for part in gpu.PARTS if part.name != "torch.compile"])
def test_every_part_tried_on_the_cpu(part, tmp_path):
    gpu.main(["--smoke", "--part", part, "--out", str(tmp_path), "--seconds", "900"])
    result = json.loads((tmp_path / "gpu.json").read_text())
    ended = result["parts"][part]["ended"]
    assert ended == "complete" or "is not installed" in ended
    # Keras's own GRU does not run so on JAX, see docs/gpu.md.
    assert set(result.get("failed", ())) <= {"bfloat16 (2, 6, 3, 4): keras GRU"}
