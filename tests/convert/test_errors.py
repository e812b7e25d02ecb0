"""What has no counterpart is refused."""

from dataclasses import replace

import keras
import pytest

import keras_gated as kg
from tests.convert.helpers import LAYERS, drawn
from tests.helpers import U, raises

ONE_OF = "`layer`...Received: "


class MyLSTM(LAYERS.LSTM):
    pass


class MyGated(kg.GatedLSTM):
    pass


class MyCell(LAYERS.GRUCell):
    pass


class MyModel(keras.Model):
    def call(self, x):
        return x


def half_built():
    return keras.Sequential([drawn(LAYERS.LSTM(U))], name="model")


REFUSED = {
    "number": (
        lambda: kg.from_keras(3),
        ONE_OF + "3",
        TypeError,
    ),
    "cell": (
        lambda: kg.from_keras(LAYERS.LSTMCell(U, name="cell")),
        ONE_OF + "LSTMCell 'cell'...not recurrent",
    ),
    "dense": (
        lambda: kg.to_keras(LAYERS.Dense(U, name="dense")),
        ONE_OF + "Dense 'dense'...not recurrent",
    ),
    "subclass": (
        lambda: kg.from_keras(MyLSTM(U, name="mine")),
        ONE_OF + "MyLSTM 'mine'...subclass",
    ),
    "gated subclass": (
        lambda: kg.to_keras(MyGated(U, name="mine")),
        ONE_OF + "MyGated 'mine'...subclass",
    ),
    "another cell": (
        lambda: kg.from_keras(LAYERS.RNN(MyCell(U), name="rnn")),
        ONE_OF + "RNN 'rnn'...MyCell...CellSpec...set_block_weights",
    ),
    "another cell in a stack": (
        lambda: kg.from_keras(LAYERS.RNN([LAYERS.GRUCell(U), MyCell(U)], name="rnn")),
        ONE_OF + "RNN 'rnn'...MyCell",
    ),
    "convolution": (
        lambda: kg.from_keras(LAYERS.ConvLSTM1D(U, 3, name="conv")),
        ONE_OF + "ConvLSTM1D 'conv'...subclass",
    ),
    "weighted activation": (
        lambda: kg.from_keras(drawn(LAYERS.GRU(U, activation=weighted(), name="gru"))),
        ONE_OF + "GRU 'gru'...activation...weights",
    ),
    "zoneout in a stack": (
        lambda: kg.from_keras(LAYERS.RNN([kg.GatedCell(U, zoneout=0.5, name="cell")], name="rnn")),
        ONE_OF + "RNN 'rnn'...GatedCell 'cell'...zoneout=0.5...GatedRNN",
    ),
    "subclassed model": (
        lambda: kg.from_keras(MyModel(name="mine")),
        ONE_OF + "MyModel 'mine'...subclass",
    ),
    "model half built": (
        lambda: kg.from_keras(half_built()),
        ONE_OF + "Sequential 'model', not built",
    ),
    "no forget gate": (
        lambda: kg.to_keras(kg.GatedLSTM(U, forget_gate=False, name="nfg")),
        "`layer`...keras.layers.LSTM...GatedLSTM 'nfg'...`cₜ = cₜ₋₁ + iₜ ⊙ c\u0303ₜ`...lacks "
        "`forget kernel`, `forget recurrent_kernel`, `forget bias`, "
        "`fₜ = σ(W_f xₜ + U_f hₜ₋₁ + b_f)`, "
        "`cₜ = fₜ ⊙ cₜ₋₁ + iₜ ⊙ c\u0303ₜ`",
    ),
    "peephole": (
        lambda: kg.to_keras(kg.GatedLSTM(U, peephole=True)),
        "`input peephole`, `forget peephole`, `output peephole`, ",
    ),
    "other output": (
        lambda: kg.to_keras(kg.GatedLSTM(U, output_activation="relu")),
        "`hₜ = oₜ ⊙ relu(cₜ)`...lacks `hₜ = oₜ ⊙ tanh(cₜ)`",
    ),
    "no second bias": (
        lambda: kg.to_keras(
            kg.GatedRNN(
                U,
                replace(
                    kg.preset("gru"),
                    candidate=kg.Candidate(reset_after=True, use_recurrent_bias=False),
                ),
            )
        ),
        "`forget recurrent_bias`",
    ),
    "writes": (lambda: kg.to_keras(kg.GatedRNN(U, "gru_chung")), "lacks `forget kernel`"),
    "leaky": (
        lambda: kg.to_keras(kg.GatedRNN(U, kg.CellSpec(memory="hidden", forget_gate=0.9))),
        "`layer`...keras.layers.GRU...GatedRNN",
    ),
    "in a stack": (
        lambda: kg.to_keras(LAYERS.RNN([kg.GatedCell(U), kg.GatedCell(U, "nog", name="cell")])),
        "`layer`...keras.layers.LSTM...GatedCell 'cell'",
    ),
}


def weighted():
    activation = LAYERS.PReLU()
    activation.build((None, U))
    return activation


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_counterpart_is_refused(name):
    raises(*REFUSED[name])


def test_an_option_that_keras_lacks_is_not_lost():
    layer = kg.GatedLSTM(4, zoneout=0.1, state_clip=2.0, name="noisy")
    raises(lambda: kg.to_keras(layer), "GatedLSTM 'noisy'...zoneout=0.1, state_clip=2.0")
