"""Other cells in the layers of a model: the weights that both cells have are taken over."""

from collections.abc import Mapping
from typing import Any

from keras_gated.convert.conversion import Conversion, inner_layers
from keras_gated.convert.keras_layers import gated_copy, to_gated_layer
from keras_gated.layers import GatedRNN
from keras_gated.spec.cell_spec import CellSpec
from keras_gated.spec.preset_lookup import as_spec


def swap_cells(model: Any, cells: Mapping[str, str | CellSpec]) -> Any:
    """Returns a copy of a model, or of a layer, with other cells in some of its layers.

    Args:
        model: with gated layers. It is not changed.
        cells: `{name of a layer: preset or CellSpec}`.

    Raises:
        ValueError: if a layer is not there.
    """
    swap = _Swap(cells)
    swapped = swap.convert(model)
    if missing := [name for name in cells if name not in swap.names]:
        raise ValueError(
            f"Argument `cells` must name recurrent layers: {', '.join(map(repr, swap.names))}. "
            f"Received: {missing[0]!r}."
        )
    if model.built:
        if not swapped.built:
            swapped.build_from_config(model.get_build_config())
        swap.carry_state(model, swapped)
    swap.compile_models()
    return swapped


class _Swap(Conversion):
    """A conversion to other cells."""

    def __init__(self, cells: Mapping[str, str | CellSpec]):
        super().__init__(self._convert_layer)
        self._cells = cells
        self.names: list[str] = []  # of the gated layers

    def _convert_layer(self, layer: Any) -> Any:
        if not isinstance(layer, GatedRNN):
            return to_gated_layer(layer)
        self.names.append(layer.name)
        if layer.name not in self._cells:
            return to_gated_layer(layer)
        cell = self._cells[layer.name]
        return gated_copy(layer, spec=cell if isinstance(cell, CellSpec) else as_spec(cell))

    def carry_weights(self, layer: Any, converted: Any) -> None:
        for old, new in self.pairs():
            if isinstance(old, GatedRNN) and old.name in self._cells:
                _carry_shared(old, new)
            elif not inner_layers(old):
                new.set_weights(old.get_weights())


def _carry_shared(old: GatedRNN, new: GatedRNN) -> None:
    """Gives a layer the weights of another one that it has in the same shape."""
    blocks, own = old.block_weights(), new.block_weights()
    for name, block in own.items():
        for key, weight in block.items():
            given = blocks.get(name, {}).get(key)
            if given is not None and tuple(given.shape) == tuple(weight.shape):
                block[key] = given
    new.set_block_weights(own)
