"""Every way to call a recurrent layer, beside keras.layers.LSTM, GRU and SimpleRNN.

Forward, last states and gradients, in the finest precision there is. Without a mask and with all
kinds of masks, each in a row of the batch, eight of the 128 ways, in which any two options meet in
all four ways; `-m long` runs the others.
"""

from itertools import combinations, product

import keras
import numpy as np
import pytest

from tests.helpers import BACKEND, FINEST, QUICK, F, U, assert_close, run_and_differentiate
from tests.layers.helpers import PAIRS, as_list

BITS = [False, True]
ALL = list(product(BITS, repeat=7))
# Of seven options the last four are parities of the first three.
SOME = [(a, b, c, a ^ b, a ^ c, b ^ c, a ^ b ^ c) for a, b, c in product(BITS, repeat=3)]
ROWS = {  # what is valid
    "right": "xx..",
    "left": "..xx",
    "holes": "x.x.",
    "other holes": ".x.x",
    "empty": "....",
    "all True": "xxxx",
}
B, T = len(ROWS), 4  # another batch size than the number of units or features
MASKS = {"none": None, "mask": np.array([[c == "x" for c in row] for row in ROWS.values()])}


def test_any_two_options_meet_in_all_four_ways():
    for i, j in combinations(range(7), 2):
        assert len({(way[i], way[j]) for way in SOME}) == 4
    assert len(set(SOME)) == 8


@pytest.mark.sampled(4)
@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("kind", MASKS)
def test_some_ways(pair, kind):
    for way in SOME:
        check(pair, MASKS[kind], *way)


@pytest.mark.long
@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("kind", MASKS)
def test_all_other_ways(pair, kind):
    for way in ALL:
        if way not in SOME:
            check(pair, MASKS[kind], *way)


@pytest.mark.parametrize("pair", PAIRS)
def test_unrolled_backwards_with_a_mask(pair):
    check(pair, MASKS["mask"], *(True, True, True, False, True, False, True))


def check(pair, mask, sequences, state, backwards, stateful, unroll, zero, start) -> None:
    ours, stock, own = PAIRS[pair]
    arguments = {
        **{"return_sequences": sequences, "return_state": state, "go_backwards": backwards},
        **{"stateful": stateful, "unroll": unroll, "zero_output_for_mask": zero},
        **{"dropout": 0.4, "recurrent_dropout": 0.3},  # which do nothing here
    }
    layers = [make(U, **own, **QUICK, **arguments, dtype=FINEST) for make in (ours, stock)]
    if BACKEND == "torch" and backwards and mask is not None:
        layers[1].unroll = False  # there Keras's layer fails, and ours is compared with its loop
    if BACKEND == "jax" and zero and mask is not None:
        layers[1].unroll = False  # unrolled, Keras's layer ignores zero_output_for_mask there
    if BACKEND == "tensorflow" and backwards and sequences and zero and mask is not None:
        layers[1].unroll = False  # unrolled, Keras's layer zeroes by the mask of forward time there
    rng = np.random.default_rng(7)
    for layer in layers:
        layer.build((B, T, F))
    weights = [0.6 * rng.standard_normal(w.shape) for w in layers[1].trainable_weights]
    x = rng.standard_normal((B, T, F)).astype(FINEST)
    states = [rng.standard_normal((B, U)).astype(FINEST) for _ in range(1 + (pair == "lstm"))]
    upstream = rng.standard_normal((B, T, U) if sequences else (B, U))
    seen = visible(mask, backwards, sequences, zero)
    found = []
    for layer in layers:
        for variable, value in zip(layer.trainable_weights, weights, strict=True):
            variable.assign(value)
        if stateful and start:
            for variable, value in zip(layer.states, states, strict=True):
                variable.assign(value)
        given = states if start else None
        if given and stateful:  # others than those that it has
            given = [2 * state for state in states]
        first = as_list(layer(x, mask=mask)) if stateful else []  # leaves its states to the next
        remaining = [keras.ops.copy(state) for state in layer.states] if stateful else []
        results, *slopes = run_and_differentiate(layer, x, upstream * seen, given, mask=mask)
        for outputs in (first, results):
            outputs[:1] = [keras.ops.convert_to_numpy(y) * seen for y in outputs[:1]]
        # On JAX what a compiled call leaves is not kept.
        left = [keras.ops.copy(s) for s in layer.states] if stateful and BACKEND != "jax" else []
        found.append([*first, *remaining, *results, *left, *slopes[0], *slopes[1]])
    way = {**arguments, "initial_state": start}
    for index, (a, b) in enumerate(zip(*found, strict=True)):
        assert_close(a, b, f"keras {FINEST}", f"{pair}: tensor {index} of {way}")


def visible(mask, backwards: bool, sequences: bool, zero: bool):
    """1 for what is compared: all, or where Keras's backends differ no output before the first.

    On JAX Keras's last output of a masked step is not zero either, with zero_output_for_mask.
    """
    if mask is None or BACKEND != "jax":
        return 1.0
    running = mask[:, ::-1] if backwards else mask
    seen = (running.cumsum(axis=1) > 0).astype(FINEST)
    if sequences:
        return seen[..., None]
    return running[:, -1:].astype(FINEST) if zero else seen[:, -1:]
