"""In bfloat16 no step of the compiled loops casts a weight, and sums are in float32. On JAX."""

import re

import numpy as np
import pytest

import keras_gated as kg
from keras_gated.engine import formula
from keras_gated.engine.backends.selected import backend
from tests.helpers import BACKEND, B, F, T

pytestmark = pytest.mark.skipif(BACKEND != "jax", reason="of the program that JAX hands to XLA")
UNITS = 7  # a size that no other axis has


def training_step(layer) -> str:
    """The HLO of the gradients of a layer, before XLA rewrites it for a device.

    A CPU has no products in bfloat16: there XLA casts their factors, weights too, in each step.
    """
    import jax

    layer.build((B, T, F))
    trained, others = (
        [v.value for v in part]
        for part in (layer.trainable_variables, layer.non_trainable_variables)
    )

    def loss(trained, x):
        return layer.stateless_call(trained, others, x)[0].astype("float32").sum()

    x = np.zeros((B, T, F), "float32")
    return jax.jit(jax.grad(loss)).lower(trained, x).as_text("hlo")


def in_loops(text: str) -> list[str]:
    """The instructions of the bodies of all loops, and of what these call."""
    blocks = dict(re.findall(r"^(?:ENTRY )?%?([\w.\-]+) [^\n]*\{\n(.*?)^\}", text, re.M | re.S))
    waiting, seen = re.findall(r"body=%?([\w.\-]+)", text), set()
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += re.findall(r"(?:to_apply|calls|body)=%?([\w.\-]+)", blocks[name])
    return [line for name in sorted(seen) for line in blocks[name].splitlines()]


def weights_cast(lines: list[str]) -> list[str]:
    """The instructions that cast a recurrent kernel, or its transpose."""
    of_a_matrix = re.compile(rf"\[({UNITS},\d+|(?!{B},)\d+,{UNITS})\]\S* convert\(")
    return [line for line in lines if of_a_matrix.search(line)]


def products(lines: list[str]) -> list[str]:
    """The types of the results of matrix products."""
    return re.findall(r"= (\w+)\[\S* dot\(", "\n".join(lines))


@pytest.mark.parametrize("name", ["lstm", "gru", "gru_cho"])
def test_in_the_loops(name):
    lines = in_loops(training_step(kg.GatedRNN(UNITS, name, dtype="mixed_bfloat16")))
    found = products(lines)
    assert len(found) >= 2 and set(found) == {"f32"}
    assert weights_cast(lines) == []
    types = dict(re.findall(r"^ *(?:ROOT )?(\S+) = (\w+)\[", "\n".join(lines), re.MULTILINE))
    for factors in re.findall(r" dot\((\S+), (\S+)\)", "\n".join(lines)):
        assert [types[factor] for factor in factors] == ["bf16", "bf16"]


def test_sums_in_bfloat16_are_found(traced_anew, monkeypatch):
    """Planted: the products as JAX makes them."""
    monkeypatch.setattr(backend, "ops_with_sums_in", lambda *_: formula.ops)
    lines = in_loops(training_step(kg.GatedLSTM(UNITS, dtype="mixed_bfloat16")))
    assert "bf16" in products(lines)


def test_a_cast_in_each_step_is_found(traced_anew, monkeypatch):
    """Planted: the weights come to the loop in float32."""
    right = formula.product

    def late(kernel, x, w, blocks=1):
        return right(kernel, x, w.astype("float32").astype(w.dtype) if w.ndim == 2 else w, blocks)

    monkeypatch.setattr(formula, "product", late)
    lines = in_loops(training_step(kg.GatedLSTM(UNITS, dtype="mixed_bfloat16")))
    assert weights_cast(lines) != []
