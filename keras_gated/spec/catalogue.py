"""The presets: cells of the literature as specifications. This is the only list of their names.

To add a preset, add an entry here and its witness in tests/reference. `confirmed=True` says that
the formula was checked against an implementation by the authors or an independent one. (Tests check
elman and gru_cho against Keras's layers, and lstm_peephole against onnxruntime.) The other formulas
were written from memory of the papers ("recalled").
"""

from dataclasses import replace
from functools import partial

from keras_gated.spec.cell_spec import CellSpec
from keras_gated.spec.config import Config
from keras_gated.spec.kernels import Blocks
from keras_gated.spec.parts import Candidate, Gate, Projection, Tied
from keras_gated.spec.preset_lookup import presets

# Parts that several presets share.
HIDDEN = CellSpec(memory="hidden", forget_gate=1.0, input_gate=1.0)
FORGET = Gate(bias_initializer="ones")
LSTM = CellSpec(forget_gate=FORGET)
# One gate mixes old state and candidate: its value is the share that is kept, or that is written.
KEEPS = replace(HIDDEN, forget_gate=Gate(), input_gate=Tied("forget", complement=True))
WRITES = replace(HIDDEN, input_gate=Gate(), forget_gate=Tied("input", complement=True))
LINEAR = Candidate(recurrent_kernel=None, use_bias=False, activation="linear")  # W x_t
FREE = Candidate(recurrent_kernel=None)  # does not see h
U_C = Candidate(recurrent_kernel="diagonal")  # each unit sees only its own h
INPUT_ONLY = Gate(recurrent_kernel=None)
DIAGONAL = Gate(kernel=None, recurrent_kernel="diagonal")
MINUS_ONE = Config.of({"class_name": "Constant", "config": {"value": -1.0}})
ONES = "forget 1 (Jozefowicz et al. 2015), so that the memory is carried on at first"


def lstm_gates(gate: Gate, forget: Gate | None = None) -> CellSpec:
    """Returns the LSTM whose three gates are `gate`; the forget gate may be another."""
    return CellSpec(input_gate=gate, forget_gate=forget or gate, output_gate=gate)


PEEPHOLE = Gate(peephole=True)
PEEPHOLES = lstm_gates(PEEPHOLE, replace(PEEPHOLE, bias_initializer="ones"))

# LSTM, GRU and simple RNN --------------------------------------------------------------------
add = partial(presets.add, family="base")

add(
    "elman",
    "tanh RNN, no gate at all",
    replace(HIDDEN, forget_gate=0.0),
    paper="Elman 1990, Finding structure in time. Cognitive Science 14",
    notes="Elman's units were logistic; all libraries use tanh. torch adds a second bias.",
    confirmed=True,
)
add(
    "lstm",
    "LSTM with a forget gate",
    LSTM,
    paper="Gers, Schmidhuber and Cummins 2000, Learning to forget. Neural Computation 12",
    notes="Keras starts the forget bias at 1; torch and flax at 0. Block orders differ: Keras has "
    "input, forget, candidate, output, ONNX input, output, forget, candidate.",
    initial_bias=ONES + "; chrono (Tallec and Ollivier 2018) for known spans",
    confirmed=True,
)
add(
    "lstm_peephole",
    "LSTM with diagonal peepholes",
    PEEPHOLES,
    paper="Gers and Schmidhuber 2000; Graves 2013, arXiv:1308.0850; Chung et al. 2014, "
    "arXiv:1412.3555",
    notes="The output gate sees c_t (papers, ONNX), not c_(t-1) as in one library. "
    "Peepholes are vectors; full matrices are another cell. The candidate has none.",
    initial_bias=ONES + "; peepholes 0 or small",
    confirmed=True,
)
add(
    "lstm_1997",
    "the first LSTM: no forget gate, other activations",
    CellSpec(
        forget_gate=1.0,
        candidate=Candidate(activation="double_half_tanh"),
        output_activation="half_tanh",
    ),
    paper="Hochreiter and Schmidhuber 1997, Long short-term memory. Neural Computation 9",
    notes="The activations are 2 tanh(x/2) and tanh(x/2); later versions use tanh. The original "
    "shared gates among a block of cells and truncated gradients; this preset does neither.",
    initial_bias="input and output below 0, so that cells start closed",
)
add(
    "gru",
    "GRU, reset after the product, as in Keras, torch and cuDNN",
    replace(KEEPS, reset_gate=Gate(), candidate=Candidate(reset_after=True)),
    paper="Cho et al. 2014, arXiv:1406.1078v1",
    notes="The update gate z is the forget gate: h = z h + (1 - z) candidate. Keras, torch and "
    "ONNX have two biases in every block; flax nnx has one.",
    initial_bias="zero, or forget above 0 to keep the state at first",
    confirmed=True,
)
add(
    "gru_cho",
    "GRU, reset before the product, the update gate keeps",
    replace(KEEPS, reset_gate=Gate()),
    paper="Cho et al. 2014, arXiv:1406.1078v3",
    notes="z is the share that is kept: h = z h + (1 - z) candidate. Chung et al. swap the two.",
    initial_bias="zero, or forget above 0 to keep the state at first",
    confirmed=True,
)
add(
    "gru_chung",
    "GRU, reset before the product, the update gate writes",
    replace(WRITES, reset_gate=Gate()),
    paper="Chung et al. 2014, Empirical evaluation of gated recurrent neural networks. "
    "arXiv:1412.3555",
    notes="z is the share that is written: h = (1 - z) h + z candidate. With negated weights of z "
    "it is gru_cho.",
    initial_bias="zero, or input below 0 to keep the state at first",
)


def block_gru(blocks: int = 1) -> CellSpec:
    """Returns the GRU of DreamerV3 with recurrent kernels of so many blocks."""
    gate = Gate(recurrent_kernel=Blocks(blocks))
    return replace(
        WRITES,
        input_gate=replace(gate, bias_initializer=MINUS_ONE),
        reset_gate=gate,
        candidate=Candidate(recurrent_kernel=gate.recurrent_kernel, reset_all=True),
    )


add(
    "block_gru",
    "GRU whose reset gate multiplies the whole candidate, recurrent kernels of blocks",
    block_gru,
    paper="Hafner et al. 2023, Mastering diverse domains through world models. arXiv:2301.04104",
    notes="The - 1 inside the update gate of the authors' code is the initial bias here. That code "
    "has 8 blocks: blocks=8, for units that are a multiple of 8. It normalises the sum of all "
    "products, before the bias; layer_norm=True normalises the product of x and that of h.",
    initial_bias="input -1, so that the state is kept at first",
)

# Greff et al.: one part removed from the LSTM with peepholes ------------------------------------
GREFF = "Greff et al. 2017, LSTM: a search space odyssey. arXiv:1503.04069"
add = partial(presets.add, paper=GREFF, family="greff", initial_bias=ONES, confirmed=True)
BASE = "Greff's LSTM has peepholes: compare it with lstm_peephole. The same without them: "

add("nig", "no input gate", replace(PEEPHOLES, input_gate=1.0), notes=BASE + "lstm_i.")
add(
    "nfg",
    "no forget gate",
    replace(PEEPHOLES, forget_gate=1.0),
    notes=BASE + "lstm_f.",
    initial_bias="zero",
)
add("nog", "no output gate", replace(PEEPHOLES, output_gate=1.0), notes=BASE + "lstm_o.")
add(
    "niaf",
    "no input activation function",
    replace(PEEPHOLES, candidate=Candidate(activation="linear"), output_activation="tanh"),
    notes="Keras cannot say it: there one activation serves candidate and output.",
)
add(
    "noaf",
    "no output activation function",
    replace(PEEPHOLES, output_activation="linear"),
    notes="Keras cannot say it: there one activation serves candidate and output.",
)
add(
    "cifg",
    "coupled input and forget gate, f = 1 - i",
    replace(PEEPHOLES, input_gate=PEEPHOLE, forget_gate=Tied("input", complement=True)),
    notes="Greff's LSTM has peepholes: compare it with lstm_peephole. Others set i = 1 - f: the "
    "same cell with negated weights of the gate.",
    initial_bias="input below 0, which is a forget bias above 0",
)
add("np", "no peepholes: the plain LSTM", LSTM, notes="The same cell as lstm.")
add(
    "fgr",
    "full gate recurrence: every gate sees the three gates of the step before",
    replace(PEEPHOLES, gate_recurrence=True),
    notes="Five states: h, c and the three gates, all zero at first.",
)

# Jozefowicz et al. ----------------------------------------------------------------------------
add = partial(
    presets.add,
    paper="Jozefowicz, Zaremba and Sutskever 2015, An empirical exploration of recurrent network "
    "architectures. PMLR 37",
    family="jozefowicz",
    confirmed=True,
)
PRINTED = "The paper prints tanh for the output gate; this preset has the usual logistic function."

add("lstm_i", "LSTM without input gate", CellSpec(input_gate=1.0), notes=PRINTED)
add("lstm_f", "LSTM without forget gate", CellSpec(forget_gate=1.0), notes=PRINTED)
add("lstm_o", "LSTM without output gate", CellSpec(output_gate=1.0), notes=PRINTED)
add("lstm_b", "LSTM with forget bias 1", LSTM, notes=PRINTED, initial_bias=ONES)


def _projected(spec: CellSpec, input_projection: bool) -> CellSpec:
    return replace(spec, input_projection=Projection() if input_projection else None)


LITERAL = (
    "x_t is added without a kernel, so the cell needs as many inputs as units. With "
    "input_projection=True the cell sees W x_t + b in place of x_t"
)
add(
    "mut1",
    "evolved cell: the update gate sees only x_t, the candidate tanh(x_t)",
    lambda input_projection=False: _projected(
        replace(
            WRITES,
            input_gate=INPUT_ONLY,
            reset_gate=Gate(),
            candidate=Candidate(kernel="identity", input_activation="tanh"),
        ),
        input_projection,
    ),
    notes=LITERAL + ", much as in other collections.",
)
add(
    "mut2",
    "evolved cell: the reset gate sees x_t unweighted",
    lambda input_projection=False: _projected(
        replace(WRITES, reset_gate=Gate(kernel="identity")), input_projection
    ),
    notes=LITERAL + "; other collections project it for the reset gate only.",
)
add(
    "mut3",
    "evolved cell: the update gate sees tanh(h)",
    replace(WRITES, input_gate=Gate(recurrent_input_activation="tanh"), reset_gate=Gate()),
)

# Dey and Salem: gates of the GRU with fewer terms -----------------------------------------------
add = partial(
    presets.add,
    paper="Dey and Salem 2017, Gate-variants of gated recurrent unit neural networks. "
    "arXiv:1701.05923",
    family="slim",
    notes="The update gate is the share that is written, as in gru_chung. The reset acts before "
    "the product.",
    confirmed=True,
)


def gru_gates(gate: Gate) -> CellSpec:
    """Returns the GRU of Chung et al. whose two gates are `gate`."""
    return replace(WRITES, input_gate=gate, reset_gate=gate)


add("gru1", "GRU whose gates see h and a bias", gru_gates(Gate(kernel=None)))
add("gru2", "GRU whose gates see h", gru_gates(Gate(kernel=None, use_bias=False)))
add("gru3", "GRU whose gates are biases", gru_gates(Gate(None, None)))

# Lu, Akandeh and Salem: gates of the LSTM with fewer terms --------------------------------------
SLIM = "Lu and Salem 2017, arXiv:1701.03441; Akandeh and Salem 2017, arXiv:"
PART1, PART2, PART3 = SLIM + "1707.04619", SLIM + "1707.04623", SLIM + "1707.04626"
add = partial(presets.add, family="slim", paper=PART1)
CONSTANT = "The constant is recalled from the paper, so it is an argument."
NUMBER = "The number of this variant is recalled from the paper."
UNBIASED, BIASED = replace(DIAGONAL, use_bias=False), replace(DIAGONAL, bias_initializer="ones")

add("slim_lstm1", "gates see h and a bias", lstm_gates(Gate(kernel=None)), confirmed=True)
add("slim_lstm2", "gates see h", lstm_gates(Gate(kernel=None, use_bias=False)), confirmed=True)
add(
    "slim_lstm3",
    "gates are biases",
    lstm_gates(Gate(None, None), Gate(None, None, bias_initializer="ones")),
    initial_bias="forget 1",
    confirmed=True,
)
add("slim_lstm4", "each gate sees only its own unit", lstm_gates(UNBIASED))
add(
    "slim_lstm5",
    "each gate sees only its own unit and a bias",
    lstm_gates(DIAGONAL, BIASED),
    initial_bias="forget 1",
)
add = partial(add, paper=PART2, notes=CONSTANT)
add(
    "slim_lstm4a",
    "input gate sees its own unit, forget constant, no output gate",
    lambda forget=0.96: CellSpec(input_gate=UNBIASED, forget_gate=forget, output_gate=1.0),
)
add(
    "slim_lstm5a",
    "input gate sees its own unit and a bias, forget constant, no output gate",
    lambda forget=0.96: CellSpec(input_gate=DIAGONAL, forget_gate=forget, output_gate=1.0),
)
add(
    "slim_lstm6",
    "three constant gates",
    lambda forget=0.59: CellSpec(input_gate=1.0, forget_gate=forget, output_gate=1.0),
)
add = partial(add, paper=PART3, notes=NUMBER)
add(
    "slim_lstm10",
    "slim_lstm4 whose candidate also sees only its own unit",
    replace(lstm_gates(UNBIASED), candidate=U_C),
)
add(
    "slim_lstm11",
    "slim_lstm5 whose candidate also sees only its own unit",
    replace(lstm_gates(DIAGONAL, BIASED), candidate=U_C),
    initial_bias="forget 1",
)
add(
    "slim_lstm_c6",
    "slim_lstm6 whose candidate sees only its own unit",
    lambda forget=0.59: CellSpec(
        input_gate=1.0, forget_gate=forget, output_gate=1.0, candidate=U_C
    ),
    paper="Akandeh and Salem 2019, Slim LSTM networks: LSTM_6 and LSTM_C6. arXiv:1901.06401",
    notes=CONSTANT,
)

# One gate, or two smaller gates ---------------------------------------------------------------
add = partial(
    presets.add,
    paper="Zhou et al. 2016, Minimal gated unit for recurrent neural networks. arXiv:1603.09420",
    family="minimal",
    confirmed=True,
    notes="The gate is the share that is written, and it resets before the product. In two "
    "libraries it is the share that is kept: another cell, because the same gate resets.",
)


def minimal(gate: Gate) -> CellSpec:
    """Returns the minimal gated unit whose gate is `gate`."""
    return replace(WRITES, input_gate=gate, reset_gate=Tied("input"))


add("mgu", "minimal gated unit: one gate resets and writes", minimal(Gate()))
add = partial(
    add,
    paper="Heck and Salem 2017, Simplified minimal gated unit variations for recurrent neural "
    "networks. arXiv:1701.03452",
)
add("mgu1", "MGU whose gate sees h and a bias", minimal(Gate(kernel=None)))
add("mgu2", "MGU whose gate sees h", minimal(Gate(kernel=None, use_bias=False)))
add("mgu3", "MGU whose gate is a bias", minimal(Gate(None, None)))

add = partial(presets.add, family="minimal")
add(
    "janet",
    "forget gate only, the output is the memory",
    lambda beta=1.0: replace(
        KEEPS, input_gate=Tied("forget", complement=True, offset=-float(beta))
    ),
    paper="van der Westhuizen and Lasenby 2018, The unreasonable effectiveness of the forget gate. "
    "arXiv:1804.04849",
    notes="The input gate is 1 - σ(a - beta); with beta=0 it is 1 - f. Some libraries return two "
    "equal states.",
    initial_bias="chrono (keras_gated.Chrono)",
    confirmed=True,
)
add(
    "s_lstm",
    "forget gate only, the output is tanh of the memory",
    CellSpec(forget_gate=FORGET, input_gate=Tied("forget", complement=True), output_gate=1.0),
    paper="Wu and King 2016, Investigating gated recurrent networks for speech synthesis. "
    "arXiv:1601.02539",
    notes="Like janet with beta=0, but the output and the recurrent input are tanh(c).",
    initial_bias="forget 1",
)
add(
    "li_gru",
    "light GRU: no reset gate, ReLU candidate",
    replace(KEEPS, candidate=Candidate(activation="relu")),
    paper="Ravanelli et al. 2018, Light gated recurrent units for speech recognition. "
    "arXiv:1803.10225",
    notes="Without the paper's batch normalisation of W x_t; each block has a bias instead. One "
    "library has tanh where the paper has ReLU.",
    confirmed=True,
)
add(
    "ugrnn",
    "update gate only",
    replace(KEEPS, forget_gate=FORGET),
    paper="Collins, Sohl-Dickstein and Sussillo 2017, Capacity and trainability in recurrent "
    "neural networks. arXiv:1611.09913",
    notes="The + 1 inside the gate of the paper is the initial bias here; others leave it out.",
    initial_bias="forget 1",
    confirmed=True,
)
add(
    "gru_no_reset",
    "GRU without reset gate",
    KEEPS,
    paper="ablation of Cho et al. 2014, arXiv:1406.1078; M-GRU of Ravanelli et al. 2018",
    notes="The same formula as ugrnn; the initial bias is 0.",
)
add(
    "gru_no_update",
    "GRU without update gate: the state is overwritten",
    replace(HIDDEN, forget_gate=0.0, reset_gate=Gate()),
    paper="ablation of Cho et al. 2014, arXiv:1406.1078",
    notes="The candidate replaces the state (z = 0). Some libraries keep a constant share instead.",
)
add(
    "minimal_rnn",
    "one gate that mixes the state with the projected input",
    replace(
        KEEPS,
        candidate=Candidate("identity", None, use_bias=False, activation="linear"),
        input_projection=Projection("tanh"),
    ),
    paper="Chen 2017, MinimalRNN. arXiv:1711.06788",
    notes="The gate sees the projected input of this step; in one library it sees that of the "
    "previous step.",
    confirmed=True,
)
add(
    "leaky_rnn",
    "leaky integrator: a constant share of the state is kept",
    lambda alpha=0.7: replace(HIDDEN, forget_gate=alpha, input_gate=1.0 - alpha),
    paper="Jaeger et al. 2007, Optimization and applications of echo state networks with leaky-"
    "integrator neurons. Neural Networks 20",
    notes="A cell without gates, for comparison; alpha is the share of the state that is kept.",
)
add(
    "light_ru",
    "light recurrent unit: the candidate sees only x_t",
    replace(WRITES, candidate=FREE),
    paper="from two collections of recurrent cells; the paper was not consulted",
)

# Candidates without recurrent kernel, linear recurrences ----------------------------------------
add = partial(presets.add, family="additive", confirmed=True)
ADDITIVE = CellSpec(output_gate=1.0, candidate=LINEAR, output_activation="tanh")
RAN = "Lee, Levy and Zettlemoyer 2017, Recurrent additive networks. arXiv:1705.07393"
add("ran", "recurrent additive network", ADDITIVE, paper=RAN)
add(
    "ran_linear",
    "recurrent additive network, linear output",
    replace(ADDITIVE, output_activation="linear"),
    paper=RAN,
    notes="The states h and c are equal. There are two, so that only one field differs from ran.",
)
add(
    "cfn",
    "chaos-free network",
    replace(
        HIDDEN,
        forget_gate=FORGET,
        input_gate=Gate(bias_initializer=MINUS_ONE),
        candidate=replace(LINEAR, activation="tanh"),
        carry_activation="tanh",
    ),
    paper="Laurent and von Brecht 2016, A recurrent neural network without chaos. arXiv:1612.06212",
    notes="The gates see h; what is carried on is tanh(h).",
    initial_bias="forget 1, input -1 (recalled)",
)
add(
    "star",
    "stackable recurrent cell",
    replace(WRITES, candidate=FREE, memory_activation="tanh"),
    paper="Turkoglu et al. 2021, Gating revisited: deep multi-layer RNNs that can be trained. "
    "arXiv:1911.11033",
    notes="tanh is applied to the whole memory at every step.",
)
add(
    "ind_rnn",
    "independently recurrent network: each unit sees its own state",
    replace(HIDDEN, forget_gate=0.0, candidate=replace(U_C, activation="relu")),
    paper="Li et al. 2018, Independently recurrent neural network. arXiv:1803.04831",
    notes="ReLU as in the paper; some libraries use tanh. A constraint should keep |u| below "
    "2^(1/T).",
)
BRC = "Vecoven, Ernst and Drion 2021, A bio-inspired bistable recurrent cell. arXiv:2006.05252"


def bistable(kind: str) -> CellSpec:
    """Returns the bistable cell whose gates see h through a kernel of this kind."""
    return replace(
        KEEPS,
        forget_gate=Gate(recurrent_kernel=kind),
        reset_gate=Gate(recurrent_kernel=kind, activation="one_plus_tanh"),
        candidate=Candidate(recurrent_kernel="identity"),
    )


add("brc", "bistable cell", bistable("diagonal"), paper=BRC)
add(
    "nbrc",
    "recurrently neuromodulated bistable cell",
    bistable("dense"),
    paper=BRC,
    notes="In one library both gates see x_t in place of h.",
)

PARA = partial(
    presets.add,
    paper="Danieli et al. 2025, ParaRNN: unlocking parallel training of nonlinear RNNs for large "
    "language models. arXiv:2510.21450",
    family="slim",
    confirmed=True,
)
SELF = Gate(recurrent_kernel="diagonal")  # sees h through a diagonal kernel
PARA(
    "para_gru",
    "GRU each of whose units sees its own state only",
    replace(gru_gates(SELF), candidate=U_C),
    notes="z writes, as in gru_chung. The authors' code has input kernels in heads; here they are "
    "dense, one head.",
    initial_bias="input from 0 to -1, spread over the units, in the authors' code",
)
PARA(
    "para_lstm",
    "LSTM with coupled gates, each of whose units sees its own state only",
    CellSpec(
        forget_gate=replace(SELF, peephole=True),
        input_gate=Tied("forget", complement=True),
        output_gate=replace(SELF, peephole=True),
        candidate=U_C,
    ),
    notes="i = 1 - f, where Greff's cifg has f = 1 - i. The authors' code has input kernels in "
    "heads; here they are dense, one head.",
    initial_bias="forget from 0 to -1, spread over the units, in the authors' code",
)

LEVY = partial(
    presets.add,
    paper="Levy et al. 2018, LSTM as a dynamically computed element-wise weighted sum. "
    "arXiv:1805.03716",
    family="additive",
    initial_bias=ONES,
)
S_RNN = replace(LSTM, candidate=LINEAR, output_activation="tanh")
LEVY("levy_srnn", "LSTM without the simple RNN inside: candidate W x_t", S_RNN)
LEVY(
    "levy_srnn_out",
    "levy_srnn without output gate",
    replace(S_RNN, output_gate=1.0),
    notes="The same formula as ran; the initial bias differs.",
)
LEVY(
    "levy_srnn_hidden",
    "levy_srnn whose gates see only x_t",
    replace(
        S_RNN,
        input_gate=INPUT_ONLY,
        forget_gate=replace(INPUT_ONLY, bias_initializer="ones"),
        output_gate=INPUT_ONLY,
    ),
)

# All blocks see only x_t: these can be computed in parallel in time -----------------------------
add = partial(presets.add, family="parallel")
TYPED = "Balduzzi and Ghifary 2016, Strongly-typed recurrent neural networks. arXiv:1602.02218"
PARALLEL = replace(KEEPS, forget_gate=INPUT_ONLY, candidate=FREE)
add("t_rnn", "strongly typed RNN", replace(PARALLEL, candidate=LINEAR), paper=TYPED, confirmed=True)
add(
    "t_gru",
    "strongly typed GRU",
    replace(
        HIDDEN,
        input_gate=replace(INPUT_ONLY, activation="linear"),
        forget_gate=INPUT_ONLY,
        candidate=FREE,
        input_window=2,
    ),
    paper=TYPED,
    notes="In the product z ⊙ o of the paper, z is the input gate here (linear), o the candidate.",
    confirmed=True,
)
add(
    "t_lstm",
    "strongly typed LSTM",
    CellSpec(
        forget_gate=INPUT_ONLY,
        input_gate=Tied("forget", complement=True),
        output_gate=replace(INPUT_ONLY, activation="tanh"),
        candidate=replace(FREE, activation="linear"),
        input_window=2,
    ),
    paper=TYPED,
    confirmed=True,
)
add(
    "gilr",
    "gated impulse linear recurrence",
    PARALLEL,
    paper="Martin and Cundy 2018, Parallelizing linear recurrent neural nets over sequence length. "
    "arXiv:1709.04057",
    notes="The gate keeps: h = g h + (1 - g) candidate. The GILR-LSTM of the paper has an LSTM "
    "around it.",
)
MINIMAL = partial(
    add,
    paper="Feng et al. 2024, Were RNNs all we needed? arXiv:2410.01201",
    notes="The plain form. With positive=True it is what the log-space form computes: the "
    "candidate is x + 1/2 for x >= 0, else σ(x). There h_0 is positive too: pass an initial state.",
)


def content(positive: bool) -> Candidate:
    """Returns the candidate of the minimal cells, linear or positive."""
    return replace(FREE, activation="positive_linear" if positive else "linear")


MINIMAL(
    "min_gru",
    "minimal GRU without hidden-state dependence",
    lambda positive=False: replace(WRITES, input_gate=INPUT_ONLY, candidate=content(positive)),
)
MINIMAL(
    "min_lstm",
    "minimal LSTM: input and forget gate divided by their sum",
    lambda positive=False: replace(
        HIDDEN,
        input_gate=INPUT_ONLY,
        forget_gate=INPUT_ONLY,
        candidate=content(positive),
        normalize_gates=True,
    ),
)
add(
    "hgrn_real",
    "the real part of HGRN: a floor under the forget gate",
    lambda floor=0.5: CellSpec(
        forget_gate=replace(INPUT_ONLY, floor=floor),
        input_gate=Tied("forget", complement=True),
        output_gate=INPUT_ONLY,
        candidate=replace(FREE, activation="silu"),
        output_activation="linear",
    ),
    paper="Qin, Yang and Zhong 2023, Hierarchically gated recurrent neural network for sequence "
    "modeling. arXiv:2311.04823",
    notes="The paper's states are complex; this is a cell for each of their two parts, without "
    "rotation. There the floor is trained, tied across layers, and grows from 0 in the first layer "
    "towards 1; here it is an argument for each layer. The normalisation and the projection of the "
    "output are layers behind the cell.",
)
QRNN = "Bradbury et al. 2017, Quasi-recurrent neural networks. arXiv:1611.01576"


def quasi(window: int, **parts) -> CellSpec:
    """Returns the QRNN with f-pooling over a window, with some parts replaced."""
    return replace(PARALLEL, input_window=window, **parts)


OUTPUT_GATE = {"memory": "cell", "output_gate": INPUT_ONLY, "output_activation": "linear"}
add("qrnn_f", "quasi-recurrent, f-pooling", lambda window=2: quasi(window), paper=QRNN)
add(
    "qrnn_fo",
    "quasi-recurrent, fo-pooling",
    lambda window=2: quasi(window, **OUTPUT_GATE),
    paper=QRNN,
    notes="No tanh on the memory.",
)
add(
    "qrnn_ifo",
    "quasi-recurrent, ifo-pooling",
    lambda window=2: quasi(window, input_gate=INPUT_ONLY, **OUTPUT_GATE),
    paper=QRNN,
    notes="No tanh on the memory.",
)

# Cells of recent years -------------------------------------------------------------------------
add = partial(presets.add, family="modern", confirmed=True)
add(
    "xlstm_slstm",
    "sLSTM of the xLSTM: an exponential input gate, and a memory divided by a normaliser",
    lambda heads=1, forget="sigmoid": CellSpec(
        input_gate=Gate(recurrent_kernel=Blocks(heads), activation="exp"),
        forget_gate=Gate(recurrent_kernel=Blocks(heads), activation=forget),
        output_gate=Gate(recurrent_kernel=Blocks(heads)),
        candidate=Candidate(recurrent_kernel=Blocks(heads)),
        output_activation="linear",
        normalizer=True,
    ),
    paper="Beck et al. 2024, xLSTM: extended long short-term memory. arXiv:2405.04517",
    notes="The paper lets the forget gate be sigmoid or exp; the authors' code has sigmoid, and 4 "
    "heads. States start at zero. At the first step m is log i, as in that code; h does not depend "
    "on m. The block around the cell (convolution, group norm, projections) is not part of it.",
    initial_bias="forget above 0, spread over the units, in the authors' code",
)
add(
    "rg_lru",
    "RG-LRU of Griffin: a trained decay, to the power of a gate that sees x_t",
    lambda heads=1, decay=8.0: replace(
        HIDDEN,
        forget_gate=replace(INPUT_ONLY, kernel=Blocks(heads), decay=decay),
        input_gate=replace(INPUT_ONLY, kernel=Blocks(heads)),
        candidate=Candidate("identity", None, use_bias=False, activation="linear"),
        input_scale="root",
    ),
    paper="De et al. 2024, Griffin: mixing gated linear recurrences with local attention for "
    "efficient language models. arXiv:2402.19427",
    notes="What is written is multiplied by √(1 - f²) at every step, as in the paper, so no step "
    "depends on its place: a stream has no first step. The code of recurrentgemma has the factor 1 "
    "at the first step of a sequence. λ starts with exp(-8 softplus(λ)) spread over [0.9, 0.999], "
    "as the paper says; in that code it is exp(-softplus(λ)). The kernels of its gates have heads.",
    initial_bias="zero; the decay is long at first",
)
add(
    "sru",
    "simple recurrent unit: gates see x_t and their own memory, the output shows x_t",
    CellSpec(
        forget_gate=replace(INPUT_ONLY, peephole=True),
        input_gate=Tied("forget", complement=True),
        output_gate=replace(INPUT_ONLY, peephole="previous"),
        candidate=LINEAR,
        output_activation="linear",
        input_skip=True,
    ),
    paper="Lei et al. 2018, Simple recurrent units for highly parallelizable recurrence. "
    "arXiv:1709.02755v5",
    notes="The formula of 2018; the first one had no peepholes, and an activation of the memory. "
    "The cell needs as many inputs as units; the authors' code projects x_t if they differ, and "
    "multiplies the x_t that is shown by a constant.",
)
add(
    "fast_grnn",
    "FastGRNN: gate and candidate share one product",
    replace(
        HIDDEN,
        forget_gate=Gate(shares="candidate"),
        input_gate=Tied("forget", complement=True, trained=True),
    ),
    paper="Kusupati et al. 2018, FastGRNN: a fast, accurate, stable and tiny kilobyte sized gated "
    "recurrent neural network. arXiv:1901.02358",
    notes="z is the share that is kept. ζ and ν are sigmoids of trained numbers, which start at 1 "
    "and -4, as in the authors' code. The kernels have full rank.",
    initial_bias="one in both, in the authors' code",
)
