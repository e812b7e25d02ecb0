"""While a model is traced: every gated layer that has an operator leaves a stub in its place.

The stub names the call; the weights of the recurrence never enter TensorFlow's graph. What only
sees the input and has no place in the operator is computed here, for all time steps at once.
"""

from dataclasses import dataclass, field
from typing import Any

import keras
from keras import ops

from keras_gated.activations import lookup
from keras_gated.export.errors import ExportError, require
from keras_gated.export.layers_within import Names, readable
from keras_gated.export.lowering import Lowering, lower
from keras_gated.export.packing import Arrays, pack
from keras_gated.layers import GatedRNN


@dataclass(frozen=True)
class Call:
    """One call of a gated layer, of which the graph holds a stub.

    Attributes:
        name: of the call, readable; the second call of "enc" is "enc_2".
        weights_name: of the layer, which its calls share.
        lowering: the operator.
        arrays: the operator's weights.
        units: int, size U of the state.
        inputs: what the stub's inputs are: "x" (B, T, I), "output_gate" (B, T, U), "mask" (B, T),
            "h" and "c" (B, U); only those that there are.
        states: the states that come out, after the sequence (B, T, U) and the last output (B, U).
        go_backwards, zero_output_for_mask: as in the layer.
    """

    name: str
    weights_name: str
    lowering: Lowering
    arrays: Arrays
    units: int
    inputs: tuple[str, ...]
    states: tuple[str, ...]
    go_backwards: bool
    zero_output_for_mask: bool


@dataclass
class Tracer:
    """A runner for `keras_gated.recurrence.run_by`.

    Args:
        model: the model that is traced.
        lowering: "auto", "native" or "loop".

    Attributes:
        calls: each call that left a stub, by token.
        shapes: of each stub's outputs, by token, -1 for an open dimension.
        became: what each layer that was called became.
        refused: why layers are no operator, by name.
    """

    model: keras.Model
    lowering: str
    calls: dict[str, Call] = field(default_factory=dict)
    shapes: dict[str, list] = field(default_factory=dict)
    became: dict[GatedRNN, Lowering] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        self._call_name, self._layer_name = Names(), Names()
        self._packed: dict[int, tuple[str, Arrays]] = {}  # by layer: paths may be the same

    def __call__(self, layer: GatedRNN, sequences, states: list, mask, h_mask):
        lowering = self._choose(layer, sequences)
        self.became[layer] = lowering
        if lowering.operator is None:
            return None
        x, output_gate = operator_input(layer, lowering, sequences)
        tensors = {"x": x, "output_gate": output_gate, "mask": mask}
        if not all(map(_is_zeros, states)):
            tensors |= dict(zip(layer.cell.form.states, states, strict=True))
        tensors = {name: tensor for name, tensor in tensors.items() if tensor is not None}
        call = self._call(layer, lowering, x.shape[-1], tuple(tensors))
        sequence, last, *states = self._stub(call, tensors)
        return last, sequence, states

    def size(self, layer: GatedRNN) -> int:
        """Returns how many numbers the file holds for a layer that became an operator."""
        return sum(array.size for array in self._packed[id(layer)][1].values())

    def _choose(self, layer: GatedRNN, sequences) -> Lowering:
        lowering = lower(layer.cell.form)
        dtype = keras.backend.standardize_dtype(sequences.dtype)
        if self.lowering == "loop":
            return Lowering(None, "lowering='loop'", {})
        if lowering.operator and dtype != "float32":
            lowering = Lowering(None, f"{dtype}: onnxruntime's operators take float32", {})
        if lowering.operator is None:
            self.refused[layer.name] = lowering.reason
        return lowering

    def check_native(self) -> None:
        """Raises an ExportError if every layer was to be native and one is not."""
        if self.lowering == "native" and self.refused:
            layers = "; ".join(f"layer {name!r}: {why}" for name, why in self.refused.items())
            raise ExportError(
                "Argument lowering='native' needs every gated layer to be one ONNX operator. "
                f"Received: {layers}. Use lowering='auto', which leaves such layers as a Loop."
            )

    def _call(self, layer: GatedRNN, lowering: Lowering, width: int, inputs: tuple) -> Call:
        name = readable(layer, self.model)
        if id(layer) not in self._packed:
            blocks = _block_arrays(layer)
            fed = layer.units if "candidate" in lowering.outside else 0
            size = (width - fed) // max(1, len(lowering.feeds))
            arrays = pack(lowering, blocks, size, layer.units)
            self._packed[id(layer)] = (self._layer_name(name), arrays)
        weights_name, arrays = self._packed[id(layer)]
        return Call(
            name=self._call_name(name),
            weights_name=weights_name,
            lowering=lowering,
            arrays=arrays,
            units=layer.units,
            inputs=inputs,
            states=layer.cell.form.states,
            go_backwards=layer.go_backwards,
            zero_output_for_mask=layer.zero_output_for_mask,
        )

    def _stub(self, call: Call, tensors: dict[str, Any]) -> list:
        (tf,) = require("tensorflow")
        token = f"keras_gated/{len(self.calls)}"
        batch, time, _ = tensors["x"].shape
        shapes = [(batch, time, call.units)] + [(batch, call.units)] * (1 + len(call.states))
        outputs = tf.raw_ops.PyFuncStateless(
            input=list(tensors.values()),
            token=token,
            Tout=[tf.float32] * len(shapes),
            name=call.name.rsplit("/", 1)[-1],
        )
        self.calls[token] = call
        self.shapes[token] = [[-1 if s is None else s for s in shape] for shape in shapes]
        return [tf.ensure_shape(o, shape) for o, shape in zip(outputs, shapes, strict=True)]


def _block_arrays(layer: GatedRNN) -> dict:
    """The layer's weights by meaning, as they are now and not as the trace sees them."""
    (tf,) = require("tensorflow")
    with tf.init_scope():
        return {
            block: {key: ops.convert_to_numpy(weight) for key, weight in weights.items()}
            for block, weights in layer.block_weights().items()
        }


def operator_input(layer: GatedRNN, lowering: Lowering, sequences):
    """Returns the operator's input (B, T, I) and the output gate (B, T, U), or None, before it."""
    cell, outside = layer.cell, lowering.outside
    formula, weights = cell.formula, cell.tensors
    x = formula.projected(weights, sequences)
    parts = [lookup(phi).function(x) for phi in lowering.feeds]
    terms = formula.biased(weights, formula.input_terms(weights, sequences)) if outside else {}
    if "candidate" in outside:
        content = formula.activation["candidate"](terms["candidate"])
        if "input" in outside:
            content = content * _gate(cell, terms, "input")
        parts.append(content + ops.zeros_like(x[..., :1]))  # (B, T, U) also without a kernel
    gate = None
    if "output" in outside:
        gate = _gate(cell, terms, "output") + ops.zeros_like(x[..., :1])
    return (parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=-1)), gate


def _gate(cell, terms: dict, name: str):
    """The value of a gate that sees only the input, for all time steps."""
    value = cell.form.gates[name]
    v = cell.formula.activation[value.block](terms[value.block] + value.offset)
    return 1.0 - v if value.complement else v


def _is_zeros(tensor) -> bool:
    """Whether a tensor is known to be zero whatever goes into the model, as default states are."""
    (tf,) = require("tensorflow")
    known = tf.get_static_value(tensor)
    operation = getattr(tensor, "op", None) if known is None else None
    if operation is not None and operation.type == "Fill":
        known = tf.get_static_value(operation.inputs[1])
    return known is not None and not known.any()
