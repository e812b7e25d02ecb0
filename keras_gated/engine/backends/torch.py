"""What the engine needs of torch: a loop over time, a custom gradient, derivatives."""

import math

import torch
from keras import ops
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from keras_gated.engine.backends.unrolled import unrolled_loop
from keras_gated.spec.operator_weights import functions_of, pack_block

# Whether slopes are taken for all time steps before the loop back: here one call costs less than T.
SLOPES_AHEAD = True

# The least batch at which the loop makes its products in each step, see `loop_plan`: none, since
# nothing is compiled.
LARGE_BATCH = math.inf

# Whether it has operators that compute a recurrent cell whole, see `fused`.
FUSED = True

loop = recorded_loop = unrolled_loop  # torch has none

_NO_TRANSFORM = (
    "A gated layer cannot run inside this transform of torch.func (grad, vmap, jacrev, ...): it "
    "has a gradient of its own, or is an operator of torch that has no such rule. Received: a call "
    "inside such a transform. Give the layer unroll=True: torch then differentiates the loop."
)


def accelerated() -> bool:
    """Returns whether this backend computes on an accelerator, such as a GPU."""
    return torch.cuda.is_available()


def ops_with_sums_in(dtype, of):
    """Returns `keras.ops`: torch's products have the type of their factors."""
    return ops


def values_on_host(x):
    """Returns the values of a tensor as an array if they are known and on the processor."""
    if x.device.type != "cpu" or traced_for_one_length() or torch.compiler.is_compiling():
        return None
    return x.detach().numpy()


def traced_for_one_length() -> bool:
    """Returns whether torch records the layer for sequences of the length of its example alone."""
    return torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]


def is_recorded() -> bool:
    """Returns whether torch records what is computed, for the values of its example alone."""
    return traced_for_one_length() or torch.compiler.is_exporting() or torch.compiler.is_compiling()


def is_exporting() -> bool:
    """Returns whether torch records the layer for a file."""
    return traced_for_one_length() or torch.compiler.is_exporting()


def why_not_cudnn(native, call) -> str | None:
    """Returns why cuDNN cannot run a call of an operator's cell; None if it can."""
    device = call.sequences.device.type
    if device != "cuda":
        return f"torch computes on {device!r} here"
    if not (torch.backends.cudnn.is_available() and torch.backends.cudnn.enabled):
        return "torch has no cuDNN here, or it is switched off"
    if not can_fuse(call):
        return (
            "torch's operators take tensors of one type, float32 or float64, and masked time steps "
            "at the end alone, and torch.compile must not record them"
        )
    return None


def can_fuse(call) -> bool:
    """Returns whether tensors and mask of a call are as torch's recurrent operators take them."""
    tensors = [call.sequences, *call.states, *call.weights.values()]
    dtypes = {x.dtype for x in tensors}
    one_dtype = len(dtypes) == 1 and dtypes <= {torch.float32, torch.float64}
    if is_recorded() or not one_dtype or 0 in call.sequences.shape:
        return False
    if call.mask is None:
        return True
    mask = call.in_running_order(call.mask)
    try:  # on a GPU this waits for the mask
        return bool(mask[:, 0].all() and (mask[:, 1:] <= mask[:, :-1]).all())
    except RuntimeError:  # inside torch.func.vmap no value is known
        return False


def run_fused(native, blocks, x, states, mask):
    """Runs a cell by one of torch's recurrent operators.

    Args:
        native: the `NativeOperator`, which `fused.find_fused_operator` found.
        blocks: the weights in the structure of `GatedCell.block_weights`.
        x: (B, T, I).
        states: the first ones, a list of (B, U).
        mask: bool (B, T) with masked time steps at the end, or None.

    Returns:
        h of all time steps (B, T, U), zeros where masked, and the last states.
    """
    try:
        return _run_operator(native, blocks, x, states, mask)
    except (RuntimeError, NotImplementedError) as error:
        if "rule not implemented" not in str(error) and "forward AD" not in str(error):
            raise
        raise RuntimeError(_NO_TRANSFORM) from error


def _run_operator(native, blocks, x, states, mask):
    operator, letters = _OPERATORS[native.operator]
    sizes = x.shape[-1], states[0].shape[-1]
    functions = functions_of(torch, dtype=x.dtype, device=x.device)
    rows = [pack_block(functions, letter, native, blocks, *sizes) for letter in letters]
    weights = [torch.concatenate([row[key] for row in rows]) for key in ("W", "R", "Wb", "Rb")]

    def run(*inputs, states, **layout):
        first = [state[None].contiguous() for state in states]
        first = first if len(first) > 1 else first[0]  # an LSTM takes a list
        # With biases, one layer, no dropout, what a gradient needs on cuDNN, one direction.
        trains = torch.is_grad_enabled()
        h, *last = operator(*inputs, first, weights, True, 1, 0.0, trains, False, **layout)
        return h, [state[0] for state in last]

    if mask is None:
        return run(x, states=states, batch_first=True)
    packed = pack_padded_sequence(x, mask.sum(1).cpu(), batch_first=True, enforce_sorted=False)
    order, back = packed.sorted_indices, packed.unsorted_indices
    h, last = run(packed.data, packed.batch_sizes, states=[state[order] for state in states])
    h = PackedSequence(h, packed.batch_sizes, order, back)
    h, _ = pad_packed_sequence(h, batch_first=True, total_length=x.shape[1])
    return h, [state[back] for state in last]


# By ONNX's name: the operator, and its blocks in their order, by ONNX's letters.
_OPERATORS = {
    "LSTM": (torch.lstm, "ifco"),
    "GRU": (torch.gru, "rzc"),
    "RNN": (torch.rnn_tanh, "c"),
}


def with_gradient(plan, tensors):
    """Returns the outputs of `plan.forward`, a list, with `plan.backward` as their gradient.

    Args:
        plan: `forward`: (*tensors, keep) -> (outputs, residuals), two lists of tensors.
            `backward`: (tensors, residuals, gradients of the outputs) -> gradients of the tensors.
        tensors: what the gradient is taken by.
    """
    if is_exporting() or not (torch.is_grad_enabled() and any(x.requires_grad for x in tensors)):
        return plan.forward(*tensors, keep=False)[0]  # a trace cannot look into a custom gradient
    try:
        return list(_CustomGradient.apply(plan.forward, plan.backward, *tensors))
    except RuntimeError as error:
        if "functorch" not in str(error):
            raise
        raise RuntimeError(_NO_TRANSFORM) from error


class _CustomGradient(torch.autograd.Function):
    @staticmethod
    def forward(context, forward, backward, *tensors):
        outputs, residuals = forward(*tensors)
        context.save_for_backward(*tensors, *residuals)
        context.back, context.count = backward, len(tensors)
        return tuple(outputs)

    @staticmethod
    def backward(context, *upstream):
        if torch.is_grad_enabled():  # create_graph=True: a second derivative is wanted
            raise RuntimeError(
                "The gradient of a gated layer cannot be differentiated again on torch. Received: "
                "a call with create_graph=True. Give the layer unroll=True: torch itself then "
                "differentiates the loop."
            )
        saved = context.saved_tensors  # read once: torch.utils.checkpoint forgets them
        tensors, residuals = saved[: context.count], saved[context.count :]
        return None, None, *context.back(tensors, residuals, upstream)


def partials(function, inputs):
    """Returns the derivative of each output of an elementwise function by each input, or None."""
    inputs, outputs = _traced(function, inputs)
    find = torch.autograd.grad
    return [
        find(y, inputs, torch.ones_like(y), retain_graph=True, allow_unused=True)
        if y.requires_grad
        else [None] * len(inputs)
        for y in outputs
    ]


def vjp(function, inputs, upstream):
    """Returns the gradient of `function` by each input for the outputs' gradients `upstream`."""
    inputs, outputs = _traced(function, inputs)
    pairs = [(y, d) for y, d in zip(outputs, upstream, strict=True) if y.requires_grad]
    slopes = torch.autograd.grad(
        [y for y, _ in pairs], inputs, [d for _, d in pairs], allow_unused=True
    )
    return [torch.zeros_like(x) if d is None else d for x, d in zip(inputs, slopes, strict=True)]


def _traced(function, inputs):
    with torch.enable_grad():
        inputs = [x.detach().requires_grad_() for x in inputs]
        return inputs, function(*inputs)
