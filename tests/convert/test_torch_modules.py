"""Modules of torch become our layers: the same numbers."""

import sys

import keras
import pytest

import keras_gated as kg
from tests.convert.helpers import LAYERS, X
from tests.helpers import FINEST, B, F, U, assert_close, raises

MODULES = {
    "rnn": ("RNN", {}),
    "rnn relu": ("RNN", {"nonlinearity": "relu", "bias": False}),
    "lstm": ("LSTM", {}),
    "lstm both ways": ("LSTM", {"bidirectional": True}),
    "gru": ("GRU", {}),
    "gru without bias": ("GRU", {"bias": False}),
    "gru both ways": ("GRU", {"bidirectional": True}),
    "rnn both ways": ("RNN", {"bidirectional": True, "bias": False}),
    "three lstm": ("LSTM", {"num_layers": 3, "dropout": 0.3}),
    "two gru both ways": ("GRU", {"num_layers": 2, "bidirectional": True}),
    "lstm projected": ("LSTM", {"proj_size": 2}),
    "lstm projected both ways": ("LSTM", {"proj_size": 2, "bidirectional": True}),
    "two lstm projected": ("LSTM", {"proj_size": 2, "num_layers": 2}),
}


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def module_of(torch, name, dtype="float32", batch_first=True):
    """A module in evaluation, which draws weights and two unlike biases itself, and its inputs."""
    kind, settings = MODULES[name]
    torch.manual_seed(4)
    module = getattr(torch.nn, kind)(F, U, batch_first=batch_first, **settings)
    for weight in module.parameters():
        torch.nn.init.normal_(weight, std=0.6)
    dtype = getattr(torch, dtype)
    return module.to(dtype).eval(), torch.tensor(X).to(dtype)


def torch_states(torch, module, x):
    """Random initial states as torch takes them, one for each layer and direction."""
    count = module.num_layers * (1 + module.bidirectional)
    sizes = (module.proj_size or U, U)
    several = [0.7 * torch.randn(count, B, size, dtype=x.dtype) for size in sizes]
    return several if isinstance(module, torch.nn.LSTM) else several[:1]


@pytest.mark.sampled(6)
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("name", MODULES)
def test_torch_modules_become_gated_layers(torch, name):
    module, x = module_of(torch, name)
    layer = kg.from_torch(module)
    several = module.num_layers > 1
    given = [] if several else torch_states(torch, module, x)
    with torch.no_grad():
        expected = module(x, (tuple(given) if len(given) > 1 else given[0]) if given else None)[0]
    # One direction after the other, the states of each together.
    ways = [state[k].numpy() for k in range(1 + module.bidirectional) for state in given]
    call = {} if several else {"initial_state": ways}
    assert_close(layer(X, **call), expected.numpy(), "keras float32", name)


def test_torch_modules_give_a_layer_a_wrapper_or_a_model(torch):
    made = {name: kg.from_torch(module_of(torch, name)[0]) for name in MODULES}
    kinds = {name: type(layer).__name__ for name, layer in made.items() if "both" not in name}
    assert kinds == {
        "rnn": "GatedRNN",
        "rnn relu": "GatedRNN",
        "lstm": "GatedLSTM",
        "gru": "GatedGRU",
        "gru without bias": "GatedGRU",
        "three lstm": "Sequential",
        "lstm projected": "GatedLSTM",
        "two lstm projected": "Sequential",
    }
    layers = made["three lstm"].layers
    names = ["GatedLSTM", "Dropout", "GatedLSTM", "Dropout", "GatedLSTM"]
    assert [type(one).__name__ for one in layers] == names and layers[1].rate == 0.3
    kinds = [type(one) for one in made["two gru both ways"].layers]
    assert kinds == [LAYERS.Bidirectional, LAYERS.Bidirectional]


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("name", ["gru", "three lstm", "lstm both ways", "two lstm projected"])
def test_torch_modules_in_float64_and_time_first(torch, name):
    module, x = module_of(torch, name, "float64", batch_first=False)
    layer = kg.from_torch(module)
    with torch.no_grad():
        expected = module(x.transpose(0, 1))[0].transpose(0, 1).numpy()
    actual = layer(x.numpy())
    assert keras.backend.standardize_dtype(actual.dtype) == "float64"
    assert_close(actual, expected, f"keras {FINEST}", name)


def test_torch_modules_that_are_none_or_of_another_kind_are_refused(torch, monkeypatch):
    must = "`module`...torch.nn.RNN, torch.nn.LSTM or torch.nn.GRU...Received: "

    class Mine(torch.nn.GRU):
        pass

    for wrong in (Mine(F, U), torch.nn.LSTMCell(F, U), torch.nn.Linear(F, U), kg.GatedLSTM(U), 3):
        text = f"{must}{type(wrong).__name__}...module inside"
        raises(lambda wrong=wrong: kg.from_torch(wrong), text, TypeError)
    monkeypatch.delitem(sys.modules, "torch")
    raises(lambda: kg.from_torch(3), f"{must}int", TypeError)
