"""While a model is traced: every gated layer leaves a stub in its place.

The stub names the call. What only sees the input and has no place in the operator is computed here,
for all time steps at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import keras
from keras import ops

from keras_gated.cell import GatedCell
from keras_gated.engine.run import run_fused
from keras_gated.onnx.errors import ExportError, require
from keras_gated.onnx.graph.recurrent import Call
from keras_gated.onnx.graph.scan import Scan, scan
from keras_gated.onnx.tracing.choice import Choice, choose
from keras_gated.onnx.tracing.model_layers import Names, places_within
from keras_gated.onnx.tracing.operator_inputs import is_zeros, operator_input
from keras_gated.onnx.tracing.weights import Arrays, block_arrays, pack
from keras_gated.spec.onnx_operator import Lowering, Refused
from keras_gated.spec.options import IN_NATIVE_OPERATOR

UNSEEN = Choice(
    "not traced",
    "no call was seen: the model does not use it, hides it in a tf.function, or its own call does",
)


@dataclass(frozen=True)
class Left:
    """How a cell left, or a layer of another kind.

    Attributes:
        name: where its layer stands in the model.
        wanted: what was asked for, one of `LOWERINGS`.
        choice: what it became, and why.
        layer: the recurrent layer.
        cell: its cell, or one made for the trace, whose variables the trace needs alive.
        weights: the layer or cell whose weights these are.
        size: int, how many numbers the file holds for it; None if not known.
    """

    name: str
    wanted: str
    choice: Choice
    layer: keras.Layer
    cell: keras.Layer
    weights: keras.Layer
    size: int | None


@dataclass
class Tracer:
    """A runner for `keras_gated.engine.run.run_by`.

    Args:
        model: the model that is traced.
        opset: int, of the ONNX standard.
        lowering: one of `LOWERINGS`, or a dictionary of these by layer name, "auto" for the others.
        expected_batch: int > 0, the batch that the file will mostly run at.

    Attributes:
        calls: what each stub stands for, by token.
        shapes: of each stub's outputs, by token, -1 for an open dimension.
        left: how each cell that was called left, by its layer's id and its place.
    """

    model: keras.Model
    opset: int
    lowering: str | Mapping[str, str] = "auto"
    expected_batch: int = 1
    calls: dict[str, Call | Scan] = field(default_factory=dict)
    shapes: dict[str, list] = field(default_factory=dict)
    left: dict[tuple[int, str], Left] = field(default_factory=dict)

    def __post_init__(self):
        self._call_name, self._layer_name = Names(), Names()
        self._places = places_within(self.model)
        self._taken = set(self._places.values())
        self._packed: dict[int, tuple[str, Arrays]] = {}  # by cell: paths may be the same

    def __call__(self, layer, sequences, states: list, mask, drawn):
        """Runs `layer`: a `GatedRNN`, or a `foreign.Run`, which has the same attributes."""
        choice = self._choose(layer, sequences, states)
        result = None
        if choice.operator == "Scan":
            try:
                result = self._as_scan(layer, sequences, states, mask, drawn)
            except Refused as refusal:
                choice = self._refused(layer, refusal)
        elif choice.lowering:
            result = self._as_operator(layer, choice.lowering, sequences, states, mask)
        self._note(layer, choice)
        return result

    def _refused(self, layer, refusal: Refused) -> Choice:
        """Keras's loop for what shows only in the trace that it is no Scan."""
        if in_time_order(layer):
            raise ExportError(
                f"Layer {self._names(layer)[0]!r}, the backward one of a Bidirectional, cannot be "
                f"a Scan: {refusal}. Export with lowering='loop'."
            )
        return Choice("Loop", str(refusal))

    def refusal(self, layer) -> str | None:
        """Returns why a layer leaves as Keras's loop, or None if it leaves a stub."""
        cell, wanted = layer.cell, self._wanted(self._names(layer))
        choice = choose(cell.form, cell.units, wanted, stepwise_option=cell.stepwise_option)
        return choice.reason if choice.operator == "Loop" else None

    def leave(self, cell, layer, names: tuple[str, ...], reason: str) -> None:
        """Notes that Keras's own loop runs a cell."""
        choice = Choice("Loop", reason)
        size = cell.count_params()
        self.left[id(layer), names[0]] = Left(
            names[0], self._wanted(names), choice, layer, cell, cell, size
        )

    def _choose(self, layer, sequences, states: list) -> Choice:
        cell, wanted = layer.cell, self._wanted(self._names(layer))
        choice = choose(cell.form, cell.units, wanted, self.expected_batch, cell.stepwise_option)
        if choice.lowering and (reason := _not_native(cell, sequences, states)):
            return replace(choose(cell.form, cell.units, "scan"), reason=reason)
        more = (
            [IN_NATIVE_OPERATOR[name] for name in cell.options(IN_NATIVE_OPERATOR)]
            if choice.lowering
            else []
        )
        return replace(choice, reason="; ".join([choice.reason, *more]))

    def _names(self, layer) -> tuple[str, ...]:
        """Names by which a layer or a `foreign.Run` may be meant, its place in the model first."""
        if isinstance(layer, keras.Layer):
            place = self._places[layer] if layer in self._places else layer.name
            return place, layer.name
        return layer.names

    def _wanted(self, names: tuple[str, ...]) -> str:
        if isinstance(self.lowering, str):
            return self.lowering
        *places, name = names
        meant = places if name in self._taken else names  # what is one's place means no other
        return next((self.lowering[name] for name in meant if name in self.lowering), "auto")

    def _note(self, layer, choice: Choice) -> None:
        stored = self._packed.get(id(layer.cell)) if choice.lowering else None
        size = sum(array.size for array in stored[1].values()) if stored else None
        weights = getattr(layer, "weights_from", layer)
        size = weights.count_params() if size is None else size
        names, held_by = self._names(layer), getattr(layer, "layer", layer)
        self.left[id(held_by), names[0]] = Left(
            names[0], self._wanted(names), choice, held_by, layer.cell, weights, size
        )

    def untraced(self) -> list[Left]:
        """Returns the recurrent layers of which no call was seen."""
        seen = {id(left.layer) for left in self.left.values()}
        found = []
        for layer, place in self._places.items():
            if isinstance(layer, keras.layers.RNN) and id(layer) not in seen:
                wanted = self._wanted((place, layer.name))
                found.append(Left(place, wanted, UNSEEN, layer, layer.cell, layer, None))
        return found

    def check(self) -> None:
        """Raises an ExportError if a layer was to be native and is not."""
        refused = [
            f"layer {left.name!r}: {left.choice.reason}"
            for left in self._held_to_account()
            if left.wanted == "native" and left.choice.lowering is None
        ]
        if refused:
            raise ExportError(
                "Argument lowering='native' needs the layer to be one ONNX operator. Received: "
                f"{'; '.join(refused)}. Use lowering='auto', with which such layers leave as a "
                "Scan or a Loop."
            )

    def _held_to_account(self) -> list[Left]:
        """The layers that must be what was asked for; those not traced if they were named."""
        named = [] if isinstance(self.lowering, str) else self.untraced()
        return [*self.left.values(), *named]

    # What a layer leaves

    def _as_operator(self, layer, lowering: Lowering, sequences, states: list, mask) -> tuple:
        x, output_gate = operator_input(layer, lowering, sequences)
        tensors = {"x": x, "output_gate": output_gate, "mask": mask}
        if not all(map(is_zeros, states)):
            tensors |= dict(zip(layer.cell.form.states, states, strict=True))
        tensors = {name: tensor for name, tensor in tensors.items() if tensor is not None}
        call = self._call(layer, lowering, x.shape[-1], tuple(tensors))
        batch, time, _ = x.shape
        shapes = [(batch, time, call.units)] + [(batch, call.units)] * (1 + len(call.states))
        sequence, last, *states = self._stub(
            call, list(tensors.values()), [(x.dtype, shape) for shape in shapes]
        )
        if layer.cell.projection_units:
            kernel = layer.cell.tensors["output_projection_kernel"]
            sequence, last, states[0] = (ops.matmul(h, kernel) for h in (sequence, last, states[0]))
        return last, sequence, states

    def _as_scan(self, layer, sequences, states: list, mask, drawn) -> tuple:
        name = self._call_name(self._names(layer)[0])
        last, outputs, states = run_fused(
            layer, sequences, states, mask, drawn, scan(name, self.opset, self._stub)
        )
        return last, ops.flip(outputs, axis=1) if in_time_order(layer) else outputs, states

    def _call(self, layer, lowering: Lowering, width: int, inputs: tuple) -> Call:
        name, cell = self._names(layer)[0], layer.cell
        if id(cell) not in self._packed:
            blocks = block_arrays(cell)
            fed = cell.units if "candidate" in lowering.outside else 0
            size = (width - fed) // max(1, len(lowering.feeds))
            arrays = pack(lowering, blocks, size, cell.units)
            self._packed[id(cell)] = (self._layer_name(name), arrays)
        weights_name, arrays = self._packed[id(cell)]
        return Call(
            name=self._call_name(name),
            weights_name=weights_name,
            lowering=lowering,
            arrays=arrays,
            units=cell.units,
            inputs=inputs,
            states=cell.form.states,
            go_backwards=layer.go_backwards,
            zero_output_for_mask=layer.zero_output_for_mask,
            in_time_order=in_time_order(layer),
        )

    def _stub(self, call: Call | Scan, tensors: list, outputs: list) -> list:
        """Leaves a stub; `outputs` are dtypes and shapes, None for an open dimension."""
        (tf,) = require("tensorflow")
        token = f"keras_gated/{len(self.calls)}"
        found = tf.raw_ops.PyFuncStateless(
            input=tensors,
            token=token,
            Tout=[dtype for dtype, _ in outputs],
            name=call.name.rsplit("/", 1)[-1],
        )
        shapes = [list(tf.TensorShape(shape)) for _, shape in outputs]
        self.calls[token] = call
        self.shapes[token] = [[-1 if s is None else s for s in shape] for shape in shapes]
        return [tf.ensure_shape(o, shape) for o, shape in zip(found, shapes, strict=True)]


def in_time_order(layer) -> bool:
    """Whether a layer's sequence is wanted in the order of its input; see `patched_layers`."""
    return getattr(layer, "in_time_order", False)


def _not_native(cell: GatedCell, sequences, states: list) -> str | None:
    """Why a cell that is an operator is none where it is called so."""
    dtype = keras.backend.standardize_dtype(sequences.dtype)
    if dtype != "float32":
        return f"{dtype}: onnxruntime's operators take float32"
    if cell.projection_units and not all(map(is_zeros, states)):
        return "no operator takes an initial state from behind projection_units"
    return None
