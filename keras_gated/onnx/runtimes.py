"""The runtimes that a file can be made for, and what each of them cannot do: one table.

The choice of a form (`tracing/native_or_scan.py`), the arguments `runtimes` and the page of
measurements read it. `python -m benchmarks.runtimes` measures it; `verify/runners.py` runs a file.

Every form of a cell that this package writes is right in onnxruntime. Other runtimes refuse some
nodes, and compute others wrongly without an error. A Scan is one step of the cell in plain
operators, which all of them compute. All of them load weights that nodes put together (`compact`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from keras_gated.installation import install_hint
from keras_gated.spec.onnx_operator import NativeOperator

STANDARD = frozenset({"Sigmoid", "Tanh", "Relu"})
DEFAULT = frozenset({"Sigmoid", "Tanh"})


@dataclass(frozen=True)
class Runtime:
    """A runtime.

    Attributes:
        name: as in the argument `runtimes`.
        module: that Python imports; "" for one of another language.
        install: what to do to install it.
        activations: those of native nodes that it computes; None for all of ONNX.
        other_activations, peepholes, lengths, reverse: what it does with a native node that has
            other activations, peepholes, a mask (`sequence_lens`) or direction="reverse"; "" if it
            is right.
        int8_lstm: whether it has onnxruntime's DynamicQuantizeLSTM.
    """

    name: str
    module: str
    install: str
    activations: frozenset[str] | None = None
    other_activations: str = ""
    peepholes: str = ""
    lengths: str = ""
    reverse: str = ""
    int8_lstm: bool = True

    def reason_against(
        self, native: NativeOperator, masked: bool, backwards: bool = False
    ) -> str | None:
        """Returns why a native node is wrong in this runtime, or None if it is right.

        Args:
            native: the node.
            masked: whether the layer has a mask.
            backwards: whether it goes backwards. In a Bidirectional its node may be joined with the
                forward one, and then be right; this is not known yet when the form is chosen.
        """
        names = {name for name, _, _ in native.functions}
        if self.activations is not None and (others := sorted(names - self.activations)):
            return f"{self.name} {self.other_activations} the activation {', '.join(others)}"
        if native.peepholes and self.peepholes:
            return f"{self.name} {self.peepholes} peepholes"
        if masked and self.lengths:
            return f"{self.name} {self.lengths} the lengths that stand for a mask"
        if backwards and self.reverse:
            return f"{self.name} {self.reverse} the direction 'reverse'"
        return None


_ALL = (
    Runtime("onnxruntime", "onnxruntime", install_hint("onnx")),
    Runtime(
        "onnx.reference",
        "onnx",
        install_hint("onnx"),
        activations=DEFAULT,
        other_activations="ignores",
        lengths="ignores",
        int8_lstm=False,
    ),
    Runtime(
        "openvino",
        "openvino",
        install_hint("runtimes"),
        activations=STANDARD,
        other_activations="refuses",
        peepholes="ignores",
        lengths="ignores",
    ),
    Runtime(
        "onnxruntime-web", "", "npm install onnxruntime-web in the folder where Python is started"
    ),
    Runtime(
        "tract",
        "tract",
        install_hint("runtimes"),
        activations=DEFAULT,
        other_activations="ignores",
        lengths="refuses",
        reverse="ignores",
        int8_lstm=False,
    ),
)
RUNTIMES = {runtime.name: runtime for runtime in _ALL}


def check_runtimes(runtimes: Any) -> tuple[str, ...]:
    """Returns the argument `runtimes` as names, "onnxruntime" first, each once.

    Raises:
        ValueError: if it is not one or more names of `RUNTIMES`.
    """
    several = isinstance(runtimes, Sequence) and not isinstance(runtimes, str)
    names = tuple(runtimes) if several else ()
    if not names or not all(isinstance(n, str) and n in RUNTIMES for n in names):
        raise ValueError(
            "Argument `runtimes` must be a list or tuple of one or more of "
            f"{', '.join(map(repr, RUNTIMES))}. Received: runtimes={runtimes!r}. "
            "Use ('onnxruntime',), the default, if unsure."
        )
    return tuple(dict.fromkeys(("onnxruntime", *names)))


def reason_against_operator(
    runtimes: Sequence[str], native: NativeOperator, masked: bool, backwards: bool = False
) -> str | None:
    """Returns why a native node is wrong in one of some runtimes, or None if it is right in all."""
    for name in runtimes:
        if reason := RUNTIMES[name].reason_against(native, masked, backwards):
            return reason
    return None


def have_int8_lstm(runtimes: Sequence[str]) -> bool:
    """Whether all of some runtimes have onnxruntime's int8 LSTM."""
    return all(RUNTIMES[name].int8_lstm for name in runtimes)
