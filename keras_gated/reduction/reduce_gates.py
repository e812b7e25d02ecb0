"""`reduce_gates`: a trained model with smaller gates or fewer units, its weights taken over."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_gated.convert.keras_models import from_keras
from keras_gated.layers import GatedGRU, GatedRNN
from keras_gated.reduction.data import input_batches
from keras_gated.reduction.model_graph import (
    NotRemovable,
    find_gated_layers,
    readers_of,
    reset_states,
    twin_of,
)
from keras_gated.reduction.recording import Recording, record
from keras_gated.reduction.reduced_model import (
    Fits,
    LayerChange,
    build_reduced,
    copying,
    numpy_blocks,
)
from keras_gated.reduction.steps import MEAN, after, is_part_of, with_defaults_of
from keras_gated.reduction.units import check_units, importance
from keras_gated.spec.cell_spec import GATES
from keras_gated.spec.parts import Gate, as_gate, check_bool

Changes = Mapping[Any, Mapping[str, Any]]  # by name of a layer, or by its place
ARGUMENTS = (*(f"{name}_gate" for name in GATES), "units")


def reduce_gates(model: Any, changes: Changes, x: Any, *, fit: bool = True, seed: int = 0) -> Any:
    """Returns a trained model with smaller gates or fewer units.

    All other weights are taken over. The weights of a gate that keeps some of its terms are fitted
    on data to what the full gate was: least squares on its pre-activation, weighted by the squared
    slope of its activation, with a ridge towards the old weights; then its bias is set so that the
    mean of each unit is what it was. For an activation that cannot have this mean, the bias of the
    fit stays. Where units go, their mean goes into the biases of the layers behind.

    Args:
        model: a Sequential or functional model with recurrent layers, Keras's LSTM, GRU and
            SimpleRNN included. It is not changed.
        changes: `{layer: {argument: new value}}`. A layer is named by its name, or by its place
            among the recurrent layers. The arguments are those of the layer's constructor:
            `input_gate`, `forget_gate`, `output_gate` and `reset_gate` take a smaller `Gate`, a
            `Tied`, a number, "mean" (the gate's mean on the data) or False (absent); `units` takes
            the number of units that stay. Fields of a `Gate` that are None stay as they were. The
            forget gate of a `GatedGRU` or a `keras.layers.GRU` may be named `update_gate`.
        x: inputs of the model: arrays, or batches (a `tf.data.Dataset`, a `PyDataset`). What the
            gates saw on at most 4,096 time steps, drawn at random, is fitted.
        fit: bool. If False, the weights that stay are copied, and the bias takes up the mean of
            what is dropped. `GateRow.fitted` says which of the two has the smaller loss.
        seed: int, of this draw.

    Returns:
        A new model, with a `GatedRNN` for each changed layer, compiled like the original with a
        fresh optimizer.

    Raises:
        ValueError: if there is no such layer, a new value is not a part of the old one, units
            cannot go, or the data do not fit.
        TypeError: if the model is not one of Keras.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(8, 10, 3)).astype("float32")
        >>> model = keras.Sequential([keras.layers.LSTM(6, name="lstm"), keras.layers.Dense(2)])
        >>> y = model(x)
        >>> forget = kg.Gate(kernel=None, recurrent_kernel=None)
        >>> smaller = kg.reduce_gates(model, {"lstm": {"forget_gate": forget, "units": 5}}, x)
        >>> model.count_params(), smaller.count_params()
        (254, 152)
    """
    return Reducer(model, x, seed).reduce(changes, check_bool(fit, "fit"))


class Reducer:
    """A model whose gates were seen on data, and that can be made smaller in several ways.

    Args:
        model, x, seed: as in `reduce_gates`.

    Attributes:
        model: a copy of the model with gated layers.
        layers: its gated layers by name.
        fits: of their gates.
    """

    def __init__(self, model: Any, x: Any, seed: int = 0):
        self.model = from_keras(model)
        self.layers = _by_name(find_gated_layers(self.model))
        if not self.layers:
            raise ValueError(
                "Argument `model` must have a recurrent layer: a GatedRNN, GatedLSTM or GatedGRU, "
                f"or Keras's LSTM, GRU or SimpleRNN. Received: {model!r}, without one."
            )
        reset_states(self.model)
        recordings = record(self.model, input_batches(x), seed=seed)
        _check_recordings(recordings, self.layers)
        self.fits = Fits(recordings)

    def reduce(self, changes: Changes, fit: bool = True) -> Any:
        """Returns the smaller model; see `reduce_gates`."""
        of_layers = self.layer_changes(changes)
        of_layers = of_layers if fit else copying(of_layers)
        return build_reduced(self.model, of_layers, self.fits)

    def layer_changes(self, changes: Changes) -> dict[GatedRNN, LayerChange]:
        """Returns what a user's changes mean for each layer."""
        if not isinstance(changes, Mapping) or not changes:
            raise ValueError(
                "Argument `changes` must be a dictionary {layer: {argument: new value}} that is "
                f"not empty. Received: {changes!r}."
            )
        found = [self._layer_change(key, values) for key, values in changes.items()]
        by_layer = {change.layer: change for change in found}
        if len(by_layer) < len(found):
            raise ValueError(
                f"Argument `changes` must name each layer once. Received: {list(changes)}."
            )
        self._check_wrappers(by_layer)
        return by_layer

    def units_changes(self, name: str, units: int) -> dict[str, dict] | None:
        """Returns the changes that leave a layer so many units; None if there are none.

        Both layers of a Bidirectional change together: the second one has none of its own.
        """
        names = {layer: key for key, layer in self.layers.items()}
        layer = self.layers[name]
        twin = twin_of(self.model, layer)
        both = [name] if twin is None else [name, names[twin]]
        if both != sorted(both, key=list(self.layers).index):
            return None
        changes = {key: {"units": units} for key in both}
        try:
            self.layer_changes(changes)
        except ValueError:
            return None
        return changes

    def _check_wrappers(self, changes: dict[GatedRNN, LayerChange]) -> None:
        """Raises a ValueError if a Bidirectional would have layers of different sizes."""
        for layer in changes:
            twin = twin_of(self.model, layer) or layer
            sizes = [changes[x].size if x in changes else x.units for x in (layer, twin)]
            if sizes[0] != sizes[1]:
                raise ValueError(
                    "Argument `changes` must leave both layers of a Bidirectional as many units. "
                    f"Received: {sizes[0]} for {layer.name!r} and {sizes[1]} for {twin.name!r}. "
                    "Give `units` for both."
                )

    def _layer_change(self, key: str | int, values: Any) -> LayerChange:
        layer = self._layer(key)
        named = by_argument(layer, values) if isinstance(values, Mapping) else {}
        if not named or not named.keys() <= set(ARGUMENTS):
            raise ValueError(
                f"Argument `changes` must give layer {key!r} a dictionary with some of "
                f"{', '.join(ARGUMENTS)}. Received: {values!r}."
            )
        gates = {k.removesuffix("_gate"): v for k, v in named.items() if k != "units"}
        change = LayerChange(layer, {k: new_value(layer, k, v) for k, v in gates.items()})
        _check_together(change)
        return self._with_units(change, named["units"]) if "units" in named else change

    def _layer(self, key: Any) -> GatedRNN:
        if isinstance(key, int) and 0 <= key < len(self.layers):
            return list(self.layers.values())[key]
        if key not in self.layers:
            raise ValueError(
                "Argument `changes` must name recurrent layers of the model: "
                f"{', '.join(map(repr, self.layers))}, or their places from 0 to "
                f"{len(self.layers) - 1}. Received: {key!r}."
            )
        return self.layers[key]

    def _with_units(self, change: LayerChange, count: Any) -> LayerChange:
        """The change with the units that stay: those that move most what reads them."""
        layer = change.layer
        whole = isinstance(count, int | np.integer) and not isinstance(count, bool)
        if not whole or not 0 < count < layer.units:
            raise ValueError(
                f"Argument `changes` must leave layer {layer.name!r} between 1 and "
                f"{layer.units - 1} of its {layer.units} units. Received: units={count!r}."
            )
        try:
            check_units(layer)
            change.readers = readers_of(self.model, layer)
        except NotRemovable as reason:
            raise ValueError(
                f"Argument `changes` must not have `units` for layer {layer.name!r}: {reason}. "
                f"Received: units={count}. Leave `units` out."
            ) from None
        blocks = numpy_blocks(layer)
        scores = importance(blocks, change.readers, self.fits.recordings[layer])
        change.stay = np.sort(np.argsort(-scores, kind="stable")[:count])
        return change


def by_argument(layer: GatedRNN, values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the new values by the names of `ARGUMENTS`: a `GatedGRU` has an update gate.

    Raises:
        ValueError: if one gate has two values.
    """
    if not isinstance(layer, GatedGRU) or "update_gate" not in values:
        return dict(values)
    if "forget_gate" in values:
        raise ValueError(
            f"Argument `changes` must give layer {layer.name!r} `update_gate` or `forget_gate`, "
            f"which are the same gate of a GRU. Received: {values!r}, with both."
        )
    return {("forget_gate" if k == "update_gate" else k): v for k, v in values.items()}


def joint_option(cell: Any) -> str | None:
    """Returns the option by which a cell computes its gates together, or None."""
    options = {"layer_norm": cell.layer_norm, "batch_norm": cell.batch_norm}
    options["gate_recurrence"] = cell.spec.gate_recurrence
    options["normalize_gates"] = cell.spec.normalize_gates
    return next((name for name, on in options.items() if on), None)


def new_value(layer: GatedRNN, name: str, value: Any) -> Any:
    """Returns the new value of a gate as a specification holds it.

    Raises:
        ValueError: if the gate of the layer has no weights, or the value is not a part of it.
    """
    spec, cell = layer.cell.spec, layer.cell
    old, argument = spec.gate(name), f"{name}_gate"
    if not isinstance(old, Gate):
        raise ValueError(
            f"Argument `changes` must name gates that have weights. Received: {argument} of layer "
            f"{layer.name!r}, which is {old!r}."
        )
    if option := joint_option(cell):
        raise ValueError(
            f"Argument `changes` must not name gates of a layer with {option}: its gates are "
            f"computed together, so that none can be fitted alone. Received: {argument} of layer "
            f"{layer.name!r}."
        )
    if old.decay or old.shares:
        raise ValueError(
            "Argument `changes` must not name gates with a decay, or that share the products of "
            f"the candidate: a fit does not know them. Received: {argument} of layer "
            f"{layer.name!r}, which is {old!r}."
        )
    if value is MEAN or (isinstance(value, str) and value == "mean"):
        return MEAN
    new = as_gate(value, argument)
    new = with_defaults_of(new, old) if isinstance(new, Gate) else new
    if isinstance(new, Gate) and not is_part_of(new, old):
        raise ValueError(
            f"Argument `changes` must give {argument} of layer {layer.name!r} a part of what it is "
            f"now: {old!r}. Received: {value!r}."
        )
    return new


def _check_together(change: LayerChange) -> None:
    """Raises a ValueError if the new gates make no cell."""
    try:
        after(change.layer.cell.spec, change.gates)
    except ValueError as error:
        raise ValueError(
            f"Argument `changes` must leave layer {change.layer.name!r} a cell that has a meaning. "
            f"Received: {change.gates!r}. {error}"
        ) from None


def _by_name(layers: list[GatedRNN]) -> dict[str, GatedRNN]:
    """Layers by name, or by path where two have the same name."""
    names = [layer.name for layer in layers]
    return {x.name if names.count(x.name) == 1 else x.path: x for x in layers}


def _check_recordings(recordings: dict[GatedRNN, Recording], layers: dict[str, GatedRNN]) -> None:
    for name, layer in layers.items():
        rows = recordings[layer].values["h"] if layer in recordings else np.empty((0, 1))
        if not len(rows) or not np.isfinite(rows).all():
            what = "no time step" if not len(rows) else "values that are not finite"
            raise ValueError(
                f"Argument `x` must be data on which all layers run. Received: data on which layer "
                f"{name!r} had {what}. Check the data and the mask."
            )
