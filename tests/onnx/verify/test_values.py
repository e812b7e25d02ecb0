"""The values at which a file is compared: a file with a planted mistake is found by them."""

import keras
import numpy as np
import onnx
import pytest
from keras import layers, ops

import keras_gated as kg
from keras_gated.onnx.tracing.model_io import Port
from keras_gated.onnx.verify.facts import Facts, facts_of_inputs
from keras_gated.onnx.verify.values import Feeds, with_one_nan
from tests.onnx.helpers import F, U, functional, on_tensorflow, randomized

pytestmark = on_tensorflow


def with_mask(make_mask, *more, shape=(None, F), dtype="float32"):
    """A model whose GRU gets the mask that `make_mask` computes from the inputs."""
    x = keras.Input(shape, name="x", dtype=dtype)
    given = make_mask(x, *more)
    values = x if dtype == "float32" else layers.Embedding(20_000, F)(x)
    y = kg.GatedGRU(U, return_sequences=True, name="gru")(values, mask=given)
    return randomized(keras.Model([x, *more], y))


def with_lengths(change):
    x, n = keras.Input((None, F), name="x"), keras.Input((), dtype="int32", name="n")
    y = kg.GatedLSTM(U, return_sequences=True, name="lstm")(x, lengths=change(n))
    return randomized(keras.Model([x, n], y))


def is_not(value):
    return lambda x: ops.any(x != value, axis=-1)


def step_mask(change):
    mask = keras.Input((None,), name="mask", dtype="bool")
    return with_mask(lambda x, given: change(given), mask)


def as_if_at_the_end(mask):
    steps = ops.cumsum(ops.ones_like(ops.cast(mask, "int32")), axis=1)
    return steps <= ops.sum(ops.cast(mask, "int32"), axis=1, keepdims=True)


def without_the_last(mask):
    return ops.concatenate([mask[:, :-1], ops.ones_like(mask[:, -1:])], axis=1)


def embedded(mask_zero):
    return functional(
        layers.Embedding(20_000, F, mask_zero=mask_zero),
        kg.GatedGRU(U, name="gru"),
        shape=(None,),
        dtype="int32",
    )


def masked(*front):
    return functional(*front, kg.GatedGRU(U, name="gru"))


def low_ids(bound):
    return with_mask(lambda x: x >= bound, shape=(None,), dtype="int32")


PLANTED = {
    "lengths above 1": (with_lengths, lambda n: n, lambda n: ops.minimum(n, 1)),
    "a length of 0": (with_lengths, lambda n: n, lambda n: ops.maximum(n, 1)),
    "the last step": (with_lengths, lambda n: n, lambda n: n - ops.cast(n > 8, "int32")),
    "the id for padding": (embedded, True, False),
    "another value": (lambda v: with_mask(is_not(v)), -1.0, -2.0),
    "no value": (masked, layers.Masking(-1.0), layers.Identity()),
    "holes": (step_mask, lambda mask: mask, as_if_at_the_end),
    "the end": (step_mask, lambda mask: mask, without_the_last),
    "a threshold": (low_ids, 5, 4),
}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_mistake_is_found(name, path):
    make, right, wrong = PLANTED[name]
    model, other = make(right), make(wrong)
    other.set_weights(model.get_weights())
    kg.export_onnx(other, path, verify=False)
    report = kg.check_onnx(model, path)
    assert not report.passed and "differs at x" in report.problems[0]
    kg.export_onnx(model, path, verify=False)
    assert kg.check_onnx(model, path).passed


def test_the_report_says_what_was_tried(path):
    model = with_mask(is_not(-1.0))
    report = kg.export_onnx(model, path)
    assert any("One NaN" in note for note in report.notes) and "note: One NaN" in str(report)
    parity = kg.check_onnx(model, path)
    assert parity.tried == ("x: random float32; -1 at the end and in holes",)
    assert "with x -1 in holes" in str(parity) and "tried: x: random float32" in str(parity)


@pytest.mark.parametrize(("lowering", "numbers"), [("native", 0), ("scan", 5 * U)])
def test_a_nan_is_tried(lowering, numbers, path):
    """In a native node it becomes a number; a Scan passes it on, as Keras does."""
    model = functional(kg.GatedLSTM(U, return_sequences=True, name="lstm"))
    report = kg.export_onnx(model, path, lowering=lowering)
    if lowering == "native":
        (note,) = report.notes
        assert f"makes {5 * U} numbers of Keras's outputs NaN, and {numbers} of the file's" in note
    else:
        assert report.notes == ()
        assert "one NaN: the file's outputs are NaN where Keras's are" in str(
            kg.check_onnx(model, path)
        )
    stream = kg.export_streaming(model, path, lowering=lowering)
    assert len(stream.notes) == len(report.notes)


# Without an export ------------------------------------------------------------------------------


def graph(*nodes, **constants):
    make = onnx.helper.make_node
    arrays = {name: np.array(value) for name, value in constants.items()}
    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()]
    made = [make(kind, inputs.split(), [output]) for kind, inputs, output in nodes]
    return onnx.helper.make_graph(made, "g", [], [], tensors)


def facts(of, dtype="float32", shape=(None, None)) -> Facts:
    (found,) = facts_of_inputs(None, of, [Port("x", shape, dtype)])
    return found


def test_what_a_graph_says_of_an_input():
    weights = np.zeros((7, 2))
    moved = ("Cast", "x", "y"), ("Squeeze", "y", "z")
    assert facts(graph(*moved, ("Equal", "z c", "m"), c=-1.0)) == Facts(None, (-1.0,))
    assert facts(graph(*moved, ("Less", "c z", "m"), c=[5])) == Facts(None, (), (5.0,))
    assert facts(graph(*moved, ("Equal", "z c", "m"), c=[1.0, 2.0])) == Facts()
    assert facts(graph(("Exp", "x", "y"), ("Equal", "y c", "m"), c=-1.0)) == Facts()
    indices = graph(("Sub", "x c", "i"), ("Gather", "w i", "e"), c=1, w=weights)
    assert facts(indices, "int32").limit == 7
    assert facts(graph(("Gather", "w x", "e"), w=weights), "int64").limit == 7
    assert facts(graph(("Equal", "x c", "m"), c=0.5), "int32") == Facts()


def test_lengths_are_between_zero_and_the_number_of_steps():
    ports = [Port("x", (None, None, F), "float32"), Port("n", (None,), "int32")]
    feeds = Feeds(None, graph(), ports, 0)
    assert feeds.has_lengths
    drawn = np.concatenate([feeds(50, 9)["n"] for _ in range(4)])
    assert set(drawn) == set(range(10))
    assert 2 <= feeds(1, 9)["n"][0] < 9
    ((words, extremes),) = feeds.variants(feeds(3, 9))
    assert words == "n 0, 9 in turn" and extremes["n"].tolist() == [9, 0, 9]
    feeds.lengths = (1, -1)
    assert set(feeds(200, 9)["n"]) == set(range(1, 9))


def test_one_nan():
    feed = {"x": np.zeros((2, 9, F), "float32"), "n": np.array([1, 2])}
    changed = with_one_nan(feed)
    assert changed is not None and np.argwhere(np.isnan(changed["x"])).tolist() == [[0, 4, 0]]
    assert not np.isnan(feed["x"]).any() and with_one_nan({"n": feed["n"]}) is None
