"""What the engine needs of torch: a loop over time, a custom gradient, derivatives."""

import torch

from keras_gated.engine.backends.unrolled import unrolled_loop as loop  # noqa: F401 - torch has none

# Whether slopes are taken for all time steps before the loop back: here one call costs less than T.
SLOPES_AHEAD = True


def accelerated() -> bool:
    """Returns whether this backend computes on an accelerator, such as a GPU."""
    return torch.cuda.is_available()


def values_on_host(x):
    """Returns the values of a tensor as an array if they are known and on the processor."""
    if x.device.type != "cpu" or traced_for_one_length() or torch.compiler.is_compiling():
        return None
    return x.detach().numpy()


def traced_for_one_length() -> bool:
    """Returns whether torch records the layer for sequences of the length of its example alone."""
    return torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]


def with_gradient(plan, tensors):
    """Returns the outputs of `plan.forward`, a list, with `plan.backward` as their gradient.

    Args:
        plan: `forward`: (*tensors, keep) -> (outputs, residuals), two lists of tensors.
            `backward`: (tensors, residuals, gradients of the outputs) -> gradients of the tensors.
        tensors: what the gradient is taken by.
    """
    exporting = traced_for_one_length() or torch.compiler.is_exporting()
    if exporting or not (torch.is_grad_enabled() and any(x.requires_grad for x in tensors)):
        return plan.forward(*tensors, keep=False)[0]  # a trace cannot look into a custom gradient
    try:
        return list(_CustomGradient.apply(plan.forward, plan.backward, *tensors))
    except RuntimeError as error:
        if "functorch" not in str(error):
            raise
        raise RuntimeError(
            "A gated layer cannot run inside torch.func (grad, vmap, jacrev, ...), since it has a "
            "gradient of its own. Received: a call inside such a transform. Give the layer "
            "unroll=True: torch itself then differentiates the loop."
        ) from error


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
