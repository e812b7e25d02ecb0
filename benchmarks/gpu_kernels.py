"""Counts the kernels that the loops of a compiled program start in one pass."""

import re

_BLOCK = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) [^\n]*\{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
_OPERATION = re.compile(r"^\s+(?:ROOT )?%?\S+ = (?:\([^=]*?\)|\S+) ([\w\-]+)\(")
# What starts nothing on the device; "call" and "while" start what they call.
_FREE = frozenset(
    ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "call", "while")
    + ("after-all", "partition-id", "replica-id", "opt-barrier")
)


def kernels_of_loops(text: str) -> list[int]:
    """Returns for each loop of a program how many kernels one pass starts, in falling order.

    Args:
        text: the HLO that XLA compiled for the device: there each instruction that is left is a
            kernel, or a call of a library.
    """
    text = re.sub(r"/\*.*?\*/", "", text)  # XLA counts the parts of long tuples so
    blocks = dict(_BLOCK.findall(text))

    def count(name: str) -> int:
        found = 0
        for line in blocks[name].splitlines():
            operation = _OPERATION.match(line)
            if operation is None:
                continue
            found += operation[1] not in _FREE
            if operation[1] == "call":
                found += sum(map(count, re.findall(r"to_apply=%?([\w.\-]+)", line)))
        return found

    return sorted(map(count, re.findall(r"body=%?([\w.\-]+)", text)), reverse=True)
