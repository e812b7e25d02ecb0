"""Presets that tests of how cells run go through: of each kind of part at least one that has it.

`-m long` goes through the others too.
"""

import pytest

import keras_gated as kg
from keras_gated.spec.normal_form import resolve

CHOSEN = """
    lstm lstm_peephole lstm_1997 fgr cifg elman leaky_rnn gru gru_cho mgu janet slim_lstm4a
    slim_lstm5 mut1 mut3 t_gru t_lstm min_gru minimal_rnn qrnn_fo cfn li_gru nbrc star
""".split()


def parts_of(name: str) -> set[str]:
    """Returns what a preset is made of, as texts: (what, which kind)."""
    form = resolve(kg.presets[name].spec)
    kinds = [(key, getattr(form, key)) for key in ("memory", "reset", "window", "states")]
    kinds += [(key, getattr(form, f"{key}_activation")) for key in ("output", "memory", "carry")]
    kinds += [("projection", form.projection is None), ("linear", form.linear_memory)]
    kinds += [(weight.name, len(weight.keys)) for weight in form.weights]
    for block in form.blocks.values():
        kinds += [(key, value) for key, value in vars(block).items() if "init" not in key]
    for gate, value in form.gates.items():
        tied = value.block not in ("", gate)
        constant = value.constant if value.constant in (None, 0.0, 1.0) else "another"
        kinds.append((gate, (constant, tied, value.complement, bool(value.offset), value.other)))
    return {str(kind) for kind in kinds}


def with_every_part(chosen: list[str], names: list[str]) -> list[str]:
    """Returns the chosen presets, and each other that has a part which none before it has."""
    found, parts = list(chosen), set().union(*map(parts_of, chosen))
    for name in names:
        if parts_of(name) - parts:
            found.append(name)
            parts |= parts_of(name)
    return found


TYPICAL = with_every_part(CHOSEN, list(kg.presets))
OTHERS = [name for name in kg.presets if name not in TYPICAL]
every_preset = pytest.mark.parametrize(
    "name", [*TYPICAL, *(pytest.param(name, marks=pytest.mark.long) for name in OTHERS)]
)
