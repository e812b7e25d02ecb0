"""Runs recurrent layers while a model is traced: it puts a stub in place of each.

Why stubs: TensorFlow records a recurrent layer as a while loop of many small operations. tf2onnx
recognises an LSTM or a GRU in such a loop in some cases only, and other cells not at all. So the
loop is never recorded. Instead, the tracer adds a single operation that means nothing to
TensorFlow, and remembers which call it stands for:

    recorded without a tracer    x -> While(cond, body: MatMul, Split, Sigmoid, ...) -> y, h, c
    recorded with a tracer       x -> PyFuncStateless(token="keras_gated/0") -> y, last output, h, c

PyFuncStateless takes any tensors, returns tensors of the types that one declares, and holds a
string, the token. It is never run. tf2onnx passes it through, and `graph/stubs.py` replaces it.

What reads only the input and has no place in the operator is computed before the stub, for all time
steps at once (`operator_inputs.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import keras
from keras import ops

from keras_gated.cell import GatedCell
from keras_gated.engine.run import run_in_engine
from keras_gated.onnx.errors import ExportError, require
from keras_gated.onnx.graph.recurrent import OperatorCall
from keras_gated.onnx.graph.scan import ScanCall, scan_loop
from keras_gated.onnx.tracing.layer_places import UniqueNames, places_within
from keras_gated.onnx.tracing.native_or_scan import Choice, choose
from keras_gated.onnx.tracing.operator_inputs import compute_operator_input, is_known_zero
from keras_gated.onnx.tracing.weights import Arrays, pack, read_block_weights
from keras_gated.spec.onnx_operator import NativeOperator, NoOperator
from keras_gated.spec.options import IN_NATIVE_OPERATOR

NOT_TRACED = Choice(
    "not traced",
    "no call was seen: the model does not use the layer, calls it in a tf.function, or the layer "
    "has a call() of its own",
)


@dataclass(frozen=True)
class CellRecord:
    """How a recurrent layer, or one cell of a stack, is exported.

    Attributes:
        name: the layer's place in the model, for a cell of a stack with "/cell_k".
        wanted: what the caller asked for, one of `LOWERINGS`.
        choice: what it is exported as, and why.
        layer: the recurrent layer.
        cell: its cell, or the `GatedCell` that was made from it. The recorded graph reads its
            variables, so it must not be deleted before the end of the export.
        weights: the layer or cell that the weights belong to.
        size: int, how many numbers the file stores for it; None if not known.
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
    """Runs gated layers during a trace; pass it to `keras_gated.engine.run.run_by`.

    Args:
        model: the model that is traced.
        opset: int, version of the ONNX operators.
        lowering: one of `LOWERINGS`, or a dictionary {layer name: one of these}; layers not named
            get "auto".
        expected_batch: int > 0, the batch size that the file will mostly run at.

    Attributes:
        calls: {token: the call that the stub stands for}.
        shapes: {token: shapes of the stub's outputs}, -1 for an open axis.
        records: {(id of the layer, name): how a cell is exported}, for each cell that was called.
    """

    model: keras.Model
    opset: int
    lowering: str | Mapping[str, str] = "auto"
    expected_batch: int = 1
    calls: dict[str, OperatorCall | ScanCall] = field(default_factory=dict)
    shapes: dict[str, list] = field(default_factory=dict)
    records: dict[tuple[int, str], CellRecord] = field(default_factory=dict)

    def __post_init__(self):
        self._unique_call, self._unique_weights = UniqueNames(), UniqueNames()
        self._places = places_within(self.model)
        self._taken = set(self._places.values())
        # {id of the cell: name and arrays of its weights}. By id, for two cells may have one path.
        self._packed: dict[int, tuple[str, Arrays]] = {}

    def __call__(self, layer, sequences, states: list, mask, drawn) -> tuple | None:
        """Runs a layer over time: adds its stub and returns the stub's outputs.

        Args:
            layer: a `GatedRNN`, or a `CellInLayer`, which has the same attributes.
            sequences, states, mask, drawn: see `keras_gated.engine.run.run_by`.

        Returns:
            The last output, the sequence and the states; None if Keras's own loop must run it.
        """
        choice = self._choose(layer, sequences, states)
        result = None
        if choice.operator == "Scan":
            try:
                result = self._add_scan(layer, sequences, states, mask, drawn)
            except NoOperator as reason:
                choice = self._fall_back_to_loop(layer, reason)
        elif choice.native:
            result = self._add_operator(layer, choice.native, sequences, states, mask)
        self._record(layer, choice)
        return result

    # The choice

    def loop_reason(self, layer) -> str | None:
        """Returns why Keras's own loop must run a layer, or None if the layer gets a stub."""
        cell, wanted = layer.cell, self._wanted(self._names(layer))
        choice = choose(cell.form, cell.units, wanted, stepwise_option=cell.stepwise_option)
        return choice.reason if choice.operator == "Loop" else None

    def _choose(self, layer, sequences, states: list) -> Choice:
        cell, wanted = layer.cell, self._wanted(self._names(layer))
        choice = choose(cell.form, cell.units, wanted, self.expected_batch, cell.stepwise_option)
        if choice.native is None:
            return choice
        if reason := _reason_against_operator(cell, sequences, states):
            return replace(choose(cell.form, cell.units, "scan"), reason=reason)
        options = [IN_NATIVE_OPERATOR[name] for name in cell.options(IN_NATIVE_OPERATOR)]
        return replace(choice, reason="; ".join([choice.reason, *options]))

    def _fall_back_to_loop(self, layer, reason: NoOperator) -> Choice:
        """Chooses Keras's loop for a cell of which only the trace shows that it can be no Scan."""
        if in_time_order(layer):  # too late: its Bidirectional does not reverse any more
            raise ExportError(
                f"Layer {self._names(layer)[0]!r}, the backward one of a Bidirectional, cannot be "
                f"a Scan: {reason}. Export with lowering='loop'."
            )
        return Choice("Loop", str(reason))

    def _names(self, layer) -> tuple[str, ...]:
        """Returns the names that mean a layer or a `CellInLayer`, its place in the model first."""
        if isinstance(layer, keras.Layer):
            place = self._places[layer] if layer in self._places else layer.name
            return place, layer.name
        return layer.names

    def _wanted(self, names: tuple[str, ...]) -> str:
        """Returns the lowering that the caller asked for by one of these names."""
        if isinstance(self.lowering, str):
            return self.lowering
        *places, name = names
        # If the name is the place of some layer, it means that layer and no other of this name.
        valid = places if name in self._taken else names
        return next((self.lowering[name] for name in valid if name in self.lowering), "auto")

    # The records

    def record_keras_loop(self, cell, layer, names: tuple[str, ...], reason: str) -> None:
        """Records that Keras's own loop runs a cell."""
        self.records[id(layer), names[0]] = CellRecord(
            name=names[0],
            wanted=self._wanted(names),
            choice=Choice("Loop", reason),
            layer=layer,
            cell=cell,
            weights=cell,
            size=cell.count_params(),
        )

    def _record(self, layer, choice: Choice) -> None:
        packed = self._packed.get(id(layer.cell)) if choice.native else None
        weights = getattr(layer, "weights_from", layer)
        names, keras_layer = self._names(layer), getattr(layer, "layer", layer)
        self.records[id(keras_layer), names[0]] = CellRecord(
            name=names[0],
            wanted=self._wanted(names),
            choice=choice,
            layer=keras_layer,
            cell=layer.cell,
            weights=weights,
            size=sum(a.size for a in packed[1].values()) if packed else weights.count_params(),
        )

    def untraced(self) -> list[CellRecord]:
        """Returns a record for each recurrent layer that was never called."""
        seen = {id(record.layer) for record in self.records.values()}
        records = []
        for layer, place in self._places.items():
            if isinstance(layer, keras.layers.RNN) and id(layer) not in seen:
                wanted = self._wanted((place, layer.name))
                records.append(
                    CellRecord(place, wanted, NOT_TRACED, layer, layer.cell, layer, None)
                )
        return records

    def check_lowering(self) -> None:
        """Raises an ExportError if "native" was asked for and a layer is something else."""
        # A layer that the model never calls is an error only if the caller named it.
        named = [] if isinstance(self.lowering, str) else self.untraced()
        failed = [
            f"layer {record.name!r}: {record.choice.reason}"
            for record in [*self.records.values(), *named]
            if record.wanted == "native" and record.choice.native is None
        ]
        if failed:
            raise ExportError(
                "Argument lowering='native' needs the layer to be one ONNX operator. Received: "
                f"{'; '.join(failed)}. Use lowering='auto', which exports such layers as a Scan "
                "or a Loop."
            )

    # The stubs

    def _add_operator(self, layer, native: NativeOperator, sequences, states: list, mask) -> tuple:
        """Adds the stub of a native operator; returns the last output, sequence and states."""
        x, output_gate = compute_operator_input(layer, native, sequences)
        tensors = {"x": x, "output_gate": output_gate, "mask": mask}
        if not all(map(is_known_zero, states)):  # an operator begins with zeros by default
            tensors |= dict(zip(layer.cell.form.states, states, strict=True))
        tensors = {name: tensor for name, tensor in tensors.items() if tensor is not None}
        call = self._operator_call(layer, native, x.shape[-1], tuple(tensors))
        batch, time, _ = x.shape
        shapes = [(batch, time, call.units)] + [(batch, call.units)] * (1 + len(call.states))
        outputs = [(x.dtype, shape) for shape in shapes]
        sequence, last, *states = self._add_stub(call, list(tensors.values()), outputs)
        if layer.cell.projection_units:
            kernel = layer.cell.tensors["output_projection_kernel"]
            sequence, last, states[0] = (ops.matmul(h, kernel) for h in (sequence, last, states[0]))
        return last, sequence, states

    def _add_scan(self, layer, sequences, states: list, mask, drawn) -> tuple:
        """Adds the stub of a Scan; returns the last output, sequence and states."""
        name = self._unique_call(self._names(layer)[0])
        last, outputs, states = run_in_engine(
            layer, sequences, states, mask, drawn, scan_loop(name, self.opset, self._add_stub)
        )
        return last, ops.flip(outputs, axis=1) if in_time_order(layer) else outputs, states

    def _operator_call(
        self, layer, native: NativeOperator, width: int, inputs: tuple
    ) -> OperatorCall:
        """Returns the description of one call; packs the cell's weights if it is the first one."""
        name, cell = self._names(layer)[0], layer.cell
        if id(cell) not in self._packed:
            candidate = cell.units if "candidate" in native.outside else 0
            input_dim = (width - candidate) // max(1, len(native.input_functions))
            arrays = pack(native, read_block_weights(cell), input_dim, cell.units)
            self._packed[id(cell)] = (self._unique_weights(name), arrays)
        weights_name, arrays = self._packed[id(cell)]
        return OperatorCall(
            name=self._unique_call(name),
            weights_name=weights_name,
            native=native,
            arrays=arrays,
            units=cell.units,
            inputs=inputs,
            states=cell.form.states,
            go_backwards=layer.go_backwards,
            zero_output_for_mask=layer.zero_output_for_mask,
            in_time_order=in_time_order(layer),
        )

    def _add_stub(self, call: OperatorCall | ScanCall, tensors: list, outputs: list) -> list:
        """Adds a stub to the graph; returns its outputs.

        Args:
            call: what the stub stands for.
            tensors: its inputs.
            outputs: (dtype, shape) of each output, None for an open axis.
        """
        (tf,) = require("tensorflow")
        token = f"keras_gated/{len(self.calls)}"
        results = tf.raw_ops.PyFuncStateless(
            input=tensors,
            token=token,
            Tout=[dtype for dtype, _ in outputs],
            name=call.name.rsplit("/", 1)[-1],
        )
        shapes = [list(tf.TensorShape(shape)) for _, shape in outputs]
        self.calls[token] = call
        self.shapes[token] = [[-1 if s is None else s for s in shape] for shape in shapes]
        return [tf.ensure_shape(y, shape) for y, shape in zip(results, shapes, strict=True)]


def in_time_order(layer) -> bool:
    """Whether a backward layer must return its outputs in time order; see `patched_layers`."""
    return getattr(layer, "in_time_order", False)


def _reason_against_operator(cell: GatedCell, sequences, states: list) -> str | None:
    """Returns why a cell that can be an operator cannot be one in this call, or None."""
    dtype = keras.backend.standardize_dtype(sequences.dtype)
    if dtype != "float32":
        return f"{dtype}: onnxruntime's operators take float32"
    if cell.projection_units and not all(map(is_known_zero, states)):
        # The operator's state is h before the projection, and only h after it is known.
        return "with projection_units, no operator takes an initial state"
    return None
