"""What a preset is and how it is looked up; the presets themselves stand in catalogue.py."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from inspect import signature
from typing import Any

from keras_gated.spec.cell_spec import CellSpec


@dataclass(frozen=True)
class Preset:
    """A named cell of the literature.

    Attributes:
        name: the name in the catalogue.
        title: what it is, in a few words.
        paper: authors, year, title and arXiv id.
        build: arguments -> CellSpec.
        family: the group under which the catalogue lists it.
        notes: what implementations disagree about, and what this preset does.
        initial_bias: the initial biases that the literature recommends, in words.
        confirmed: whether the formula was checked against an author's or an independent
            implementation; False is "recalled".
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
        """The specification, with the default arguments."""
        return self.build()

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments that `keras_gated.preset` takes for it, and their defaults."""
        return {name: p.default for name, p in signature(self.build).parameters.items()}


class Presets(Mapping):
    """The presets by name, read-only, in the order of the catalogue; iterating gives the names."""

    def __init__(self):
        self._by_name: dict[str, Preset] = {}

    def __getitem__(self, name: str) -> Preset:
        if name not in self._by_name:
            near = get_close_matches(str(name).lower(), self._by_name, n=3, cutoff=0.4)
            hint = f"Did you mean {' or '.join(map(repr, near))}? " if near else ""
            raise UnknownPreset(
                "Argument `spec` must be a CellSpec or the name of a preset. "
                f"Received: spec={name!r}. {hint}All names: list(keras_gated.presets)."
            )
        return self._by_name[name]

    def add(self, name: str, title: str, **about: Any) -> None:
        """Adds a preset; `about` are the other fields of `Preset`."""
        self._by_name[name] = Preset(name, title, **about)

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def __repr__(self) -> str:
        return f"Presets({', '.join(self)})"


class UnknownPreset(KeyError, ValueError):
    """Raised for a name that no preset has."""

    def __str__(self) -> str:
        return self.args[0]


presets = Presets()


def preset(name: str, **arguments: Any) -> CellSpec:
    """Returns the specification of a preset.

    Args:
        name: a name of `keras_gated.presets`.
        **arguments: of the preset, e.g. `beta` of "janet"; the defaults are the paper's.

    Raises:
        ValueError: if there is no such preset, with the nearest names.
        TypeError: if the preset takes no such argument.

    Example:
        >>> kg.GatedRNN(32, kg.preset("janet", beta=0.0))
    """
    found = presets[name]
    if unknown := set(arguments) - set(found.arguments):
        takes = ", ".join(f"{k}={v!r}" for k, v in found.arguments.items()) or "none"
        raise TypeError(
            f"Arguments of preset {name!r} must be among: {takes}. "
            f"Received: {', '.join(sorted(unknown))}. Change other parts with dataclasses.replace."
        )
    return found.build(**arguments)


def specification(spec: str | CellSpec | Mapping) -> CellSpec:
    """Returns the CellSpec that `spec` means: a preset's name, a specification or its config.

    Raises:
        ValueError: if it is an unknown name.
        TypeError: if it is none of the three.
    """
    if isinstance(spec, str):
        return presets[spec].spec
    if isinstance(spec, Mapping):
        return CellSpec.from_config(spec)
    if isinstance(spec, CellSpec):
        return spec
    raise TypeError(
        "Argument `spec` must be the name of a preset, a keras_gated.CellSpec or its config. "
        f"Received: spec={spec!r}. For a preset with arguments use keras_gated.preset(name, ...)."
    )
