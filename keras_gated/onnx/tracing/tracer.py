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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import keras
from keras import ops

from keras_gated.engine.call import RecurrentCall
from keras_gated.engine.run import run_in_loop
from keras_gated.onnx.errors import ExportError, require
from keras_gated.onnx.graph.recurrent import OperatorCall
from keras_gated.onnx.graph.scan import ScanCall, scan_loop
from keras_gated.onnx.graph.stored_once import count_stored
from keras_gated.onnx.runtimes import reason_against_operator
from keras_gated.onnx.tracing.layer_places import UniqueNames, places_within
from keras_gated.onnx.tracing.native_or_scan import Choice, choose
from keras_gated.onnx.tracing.operator_inputs import (
    Arrays,
    compute_operator_input,
    is_known_zero,
    pack,
    read_block_weights,
)
from keras_gated.spec.onnx_operator import NativeOperator, NoOperator

NOT_TRACED = Choice(
    "not traced",
    "no call was seen: the model does not use the layer, calls it in a tf.function, or the layer "
    "has a call() of its own",
)


@dataclass(frozen=True)
class CellPlace:
    """Where a cell is in a model.

    Attributes:
        layer: the recurrent layer.
        cell: its cell, or the `GatedCell` that was made from it. The recorded graph reads its
            variables, so it must not be deleted before the end of the export.
        names: names that mean it in the argument `lowering`, its place in the model first; see
            `recurrent_names`.
        weights: the layer or cell that the weights belong to.
    """

    layer: keras.Layer
    cell: keras.Layer
    names: tuple[str, ...]
    weights: keras.Layer


@dataclass(frozen=True)
class CellRecord:
    """How a recurrent layer, or one cell of a stack, is exported.

    Attributes:
        place: the cell.
        wanted: what the caller asked for, one of `LOWERINGS`.
        choice: what it is exported as, and why.
        size: int, how many numbers the file stores for it; None if not known.
    """

    place: CellPlace
    wanted: str
    choice: Choice
    size: int | None

    @property
    def name(self) -> str:
        """The layer's place in the model, for a cell of a stack with "/cell_k"."""
        return self.place.names[0]


@dataclass
class Tracer:
    """Runs gated layers during a trace; pass it to `keras_gated.engine.run.run_by`.

    Args:
        model: the model that is traced.
        opset: int, version of the ONNX operators.
        lowering: one of `LOWERINGS`, or a dictionary {layer name: one of these}; layers not named
            get "auto".
        expected_batch: int > 0, the batch size that the file will mostly run at.
        compact: bool, whether the file stores each weight once.
        runtimes: names of the runtimes in which the file must be right.

    Attributes:
        calls: {token: the call that the stub stands for}.
        shapes: {token: shapes of the stub's outputs}, -1 for an open axis.
        records: {(id of the layer, name): how a cell is exported}, for each cell that was called.
    """

    model: keras.Model
    opset: int
    lowering: str | Mapping[str, str] = "auto"
    expected_batch: int = 1
    compact: bool = True
    runtimes: Sequence[str] = ("onnxruntime",)
    calls: dict[str, OperatorCall | ScanCall] = field(default_factory=dict)
    shapes: dict[str, list] = field(default_factory=dict)
    records: dict[tuple[int, str], CellRecord] = field(default_factory=dict)

    def __post_init__(self):
        self._unique_call, self._unique_weights = UniqueNames(), UniqueNames()
        self._layers = places_within(self.model)
        self._taken = set(self._layers.values())
        # Cells that were made from Keras's, by layer and cell: two layers may share a cell.
        self._places: dict[tuple[int, int], CellPlace] = {}
        # {id of the cell: name and arrays of its weights}. By id, for two cells may have one path.
        self._packed: dict[int, tuple[str, Arrays]] = {}

    @property
    def places(self) -> list[CellPlace]:
        """The places of the cells that are not the cell of a `GatedRNN`."""
        return list(self._places.values())

    def add(self, place: CellPlace) -> None:
        """Says where a cell is that is not the cell of a `GatedRNN`."""
        self._places[id(place.layer), id(place.cell)] = place

    def __call__(self, call: RecurrentCall) -> tuple | None:
        """Runs a call: adds its stub and returns what `engine.run.run` does.

        None: the loop over time must be recorded as it is.
        """
        place, choice, result = self.place_of(call.layer, call.cell), self._choose(call), None
        if choice.operator == "Scan":
            try:
                result = self._add_scan(call, place)
            except NoOperator as reason:  # only the trace shows it
                choice = Choice("Loop", str(reason))
        elif choice.native:
            result = self._add_operator(call, place, choice.native)
        packed = self._packed.get(id(call.cell)) if choice.native else None
        self._record(place, choice, packed and self._count_stored(choice.operator, packed[1]))
        return result

    # The choice

    def _choose(self, call: RecurrentCall) -> Choice:
        cell, wanted = call.cell, self._wanted(self.place_of(call.layer, call.cell).names)
        choice = choose(cell.form, cell.units, wanted, self.expected_batch, cell.stepwise_option)
        if choice.native is None:
            return choice
        masked = call.mask is not None
        reason = _reason_against_operator(call) or reason_against_operator(
            self.runtimes, choice.native, masked, call.go_backwards
        )
        if reason:
            scan = choose(cell.form, cell.units, "scan")
            return Choice("Loop" if scan.native else scan.operator, reason)
        return replace(choice, reason="; ".join([choice.reason, *cell.native_options]))

    def loop_reason(self, place: CellPlace) -> str | None:
        """Returns why a loop over time must run a cell, as far as is known before the trace."""
        cell, wanted = place.cell, self._wanted(place.names)
        choice = choose(cell.form, cell.units, wanted, stepwise_option=cell.stepwise_option)
        return choice.reason if choice.operator == "Loop" else None

    def place_of(self, layer: keras.Layer, cell: keras.Layer) -> CellPlace:
        """Returns where a cell is."""
        if known := self._places.get((id(layer), id(cell))):
            return known
        place = self._layers[layer] if layer in self._layers else layer.name
        # The layer itself may have another name during the trace.
        return CellPlace(layer, cell, (place, place.rpartition("/")[2]), layer)

    def _wanted(self, names: tuple[str, ...]) -> str:
        """Returns the lowering that the caller asked for by one of these names."""
        if isinstance(self.lowering, str):
            return self.lowering
        *places, name = names
        # If the name is the place of some layer, it means that layer and no other of this name.
        valid = places if name in self._taken else names
        return next((self.lowering[name] for name in valid if name in self.lowering), "auto")

    # The records

    def record_loop(self, place: CellPlace, reason: str) -> None:
        """Records that a loop over time runs a cell."""
        self._record(place, Choice("Loop", reason))

    def _record(self, place: CellPlace, choice: Choice, size: int | None = None) -> None:
        size = place.weights.count_params() if size is None else size
        record = CellRecord(place, self._wanted(place.names), choice, size)
        self.records[id(place.layer), place.names[0]] = record

    def untraced(self) -> list[CellRecord]:
        """Returns a record for each recurrent layer that was never called."""
        seen = {id(record.place.layer) for record in self.records.values()}
        layers = [layer for layer in self._layers if isinstance(layer, keras.layers.RNN)]
        places = [self.place_of(layer, layer.cell) for layer in layers if id(layer) not in seen]
        return [CellRecord(p, self._wanted(p.names), NOT_TRACED, None) for p in places]

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

    def _count_stored(self, operator: str, arrays: Arrays) -> int:
        if self.compact:
            return count_stored(operator, arrays)
        return sum(array.size for array in arrays.values())

    # The stubs

    def _add_operator(self, call: RecurrentCall, place: CellPlace, native: NativeOperator) -> tuple:
        """Adds the stub of a native operator; returns the last output, sequence and states."""
        sequences = ops.cast(call.sequences, "float32")  # from integers or booleans, as Keras does
        x, output_gate = compute_operator_input(replace(call, sequences=sequences), native)
        tensors = {"x": x, "output_gate": output_gate, "mask": call.mask}
        if not all(map(is_known_zero, call.states)):  # an operator begins with zeros by default
            tensors |= dict(zip(call.cell.form.states, call.states, strict=True))
        tensors = {name: tensor for name, tensor in tensors.items() if tensor is not None}
        node = self._operator_call(call, place, native, x.shape[-1], tuple(tensors))
        batch, time, _ = x.shape
        shapes = [(batch, time, node.units)] + [(batch, node.units)] * (1 + len(node.states))
        outputs = [(x.dtype, shape) for shape in shapes]
        sequence, last, *states = self._add_stub(node, list(tensors.values()), outputs)
        if call.cell.projection_units:
            kernel = call.weights["output_projection_kernel"]
            sequence, last, states[0] = (ops.matmul(h, kernel) for h in (sequence, last, states[0]))
        return last, sequence, states

    def _add_scan(self, call: RecurrentCall, place: CellPlace) -> tuple:
        """Adds the stub of a Scan; returns the last output, sequence and states."""
        name = self._unique_call(place.names[0])
        return run_in_loop(call, scan_loop(name, self.opset, self._add_stub))

    def _operator_call(
        self,
        call: RecurrentCall,
        place: CellPlace,
        native: NativeOperator,
        width: int,
        inputs: tuple,
    ) -> OperatorCall:
        """Returns the description of one node; packs the cell's weights if it is the first one."""
        name, cell = place.names[0], call.cell
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
            go_backwards=call.go_backwards,
            zero_output_for_mask=call.zero_output_for_mask,
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


def _reason_against_operator(call: RecurrentCall) -> str | None:
    """Returns why a cell that can be an operator cannot be one in this call, or None."""
    if call.starts is not None:
        return "resets: an operator's states begin at the beginning of a row alone"
    # Integers and booleans are cast to the dtype of the weights.
    dtype = keras.backend.result_type(call.sequences.dtype, call.cell.compute_dtype)
    if dtype != "float32":
        return f"{dtype}: onnxruntime's operators take float32"
    if call.cell.projection_units and not all(map(is_known_zero, call.states)):
        # The operator's state is h before the projection, and only h after it is known.
        return "with projection_units, no operator takes an initial state"
    return None
