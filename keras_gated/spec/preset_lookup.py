"""Presets: named specifications of the literature, and how they are looked up.

The presets themselves are in catalogue.py, which fills `presets` when it is imported.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from inspect import signature
from typing import Any

from keras_gated.spec.cell_spec import CellSpec


@dataclass(frozen=True)
class Preset:
    """A named cell of the literature, with its specification and its source.

    Attributes:
        name: its name in the catalogue.
        title: what the cell is, in a few words.
        paper: authors, year, title and arXiv id.
        build: function that takes the preset's arguments and returns its `CellSpec`.
        family: the group in which the catalogue lists it.
        notes: where implementations differ, and what this preset does.
        initial_bias: the initial biases that the literature recommends, in words.
        confirmed: whether the formula was checked against an implementation by the authors or an
            independent one. If False, it was written from memory ("recalled").

    Example:
        >>> gru = kg.presets["gru"]
        >>> gru.title
        'GRU, reset after the product, as in Keras, torch and cuDNN'
        >>> gru.spec == kg.preset("gru")
        True
    """

    name: str
    title: str
    paper: str
    build: Callable[..., CellSpec] = field(repr=False)
    family: str = "other"
    notes: str = ""
    initial_bias: str = "zero"
    confirmed: bool = False

    @property
    def spec(self) -> CellSpec:
        """The specification with the default arguments."""
        return self.build()

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments that `keras_gated.preset` takes for this cell, with their defaults."""
        return {name: p.default for name, p in signature(self.build).parameters.items()}


class Presets(Mapping):
    """All presets by name, in the order of the catalogue: a read-only mapping.

    `list(keras_gated.presets)` gives the names.
    """

    def __init__(self):
        self._by_name: dict[str, Preset] = {}

    def __getitem__(self, name: str) -> Preset:
        if name not in self._by_name:
            near = OTHER_NAMES.get(str(name).lower().replace("_", ""))
            near = near or get_close_matches(str(name).lower(), self._by_name, n=3, cutoff=0.4)
            hint = f"Did you mean {' or '.join(map(repr, near))}? " if near else ""
            raise UnknownPreset(
                "Argument `spec` must be a CellSpec or the name of a preset. "
                f"Received: spec={name!r}. {hint}All names: list(keras_gated.presets)."
            )
        return self._by_name[name]

    def add(
        self, name: str, title: str, build: CellSpec | Callable[..., CellSpec], **fields: Any
    ) -> None:
        """Adds a preset: its specification, or a function that takes arguments and returns it.

        `fields` are the other fields of `Preset`.
        """
        function = build if callable(build) else lambda: build
        self._by_name[name] = Preset(name, title, build=function, **fields)

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def __repr__(self) -> str:
        return f"Presets({', '.join(self)})"


class UnknownPreset(KeyError, ValueError):
    """Raised for a name that no preset has. Both a KeyError and a ValueError."""

    def __str__(self) -> str:
        return self.args[0]


# What other libraries call a cell: "tanh" is the mode of an RNN in torch and ONNX.
OTHER_NAMES: dict[str, list[str]] = {
    name: ["elman"] for name in ("tanh", "rnn", "rnntanh", "simplernn", "vanilla")
}

presets = Presets()


def preset(name: str, **arguments: Any) -> CellSpec:
    """Returns the specification of a preset.

    Args:
        name: a name of `keras_gated.presets`.
        **arguments: arguments of the preset, e.g. `beta` of "janet". The defaults are those of
            the paper.

    Raises:
        ValueError: if there is no such preset. The message suggests similar names.
        TypeError: if the preset has no such argument.

    Example:
        >>> layer = kg.GatedRNN(32, kg.preset("janet", beta=0.0))
        >>> kg.presets["janet"].arguments
        {'beta': 1.0}
    """
    known = presets[name]
    if unknown := set(arguments) - set(known.arguments):
        takes = ", ".join(f"{k}={v!r}" for k, v in known.arguments.items()) or "none"
        raise TypeError(
            f"Arguments of preset {name!r} must be among these: {takes}. "
            f"Received: {', '.join(sorted(unknown))}. To change another part of the specification, "
            "use dataclasses.replace."
        )
    return known.build(**arguments)


def as_spec(spec: str | CellSpec | Preset | Mapping) -> CellSpec:
    """Returns the `CellSpec` that `spec` stands for.

    Args:
        spec: name of a preset, the `Preset`, a `CellSpec`, or a config of a `CellSpec`.

    Raises:
        ValueError: if no preset has that name.
        TypeError: if it is none of the four.
    """
    if isinstance(spec, str):
        return presets[spec].spec
    if isinstance(spec, Mapping):
        return CellSpec.from_config(spec)
    if isinstance(spec, Preset):
        return spec.spec
    if isinstance(spec, CellSpec):
        return spec
    raise TypeError(
        "Argument `spec` must be the name of a preset, a keras_gated.CellSpec or its config. "
        f"Received: spec={spec!r}. For a preset with arguments use keras_gated.preset(name, ...)."
    )
