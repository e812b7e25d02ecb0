"""The witness of every preset: its step in float64 NumPy, by hand from the paper's formula.

Nothing here knows keras_gated. A witness is one decorated function; its parameter formula and the
weights it reads stand beside it:

    step(w, x, state, **constants) -> new_state

- w: weights by meaning, `w["forget"]["kernel"]`; dense kernels (in, out), diagonal ones (n,);
  an identity kernel, an absent weight and an absent block have no key.
- x: (B, m), or (B, k m) for a cell with an input window: x_t first, then x_{t-1}, and so on.
- state: (h,), (h, c), (h, c, n, m) or (h, c, i, f, o); new_state[0] is the output.

A gate that keeps the old state is "forget", one that writes the new content is "input", whichever
letter the paper gives it; of a gate and its complement only the paper's own has weights.
"""

from . import ablations, classic, modern, parallel, reduced, simplified
from .base import WITNESSES, Witness, draw, gradient, run, state_names, valid_states

__all__ = [
    "WITNESSES",
    "Witness",
    "ablations",
    "classic",
    "draw",
    "gradient",
    "modern",
    "parallel",
    "reduced",
    "run",
    "simplified",
    "state_names",
    "valid_states",
]
