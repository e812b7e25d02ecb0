"""What a cell is: its gates, ties and candidate, and what follows from them. No tensors here.

Read the files in this order:

1. `parts.py`: `Gate`, `Tied`, `Candidate` and `Projection`, the parts of a specification.
2. `cell_spec.py`: `CellSpec`, the formula with all its settings, and the rules that it checks.
3. `normal_form.py`: a specification with ties followed, constants folded and weights in order.
4. `activations.py`: each activation as a function, in LaTeX and in ONNX.
5. `preset_lookup.py`, `catalogue.py`: how a cell of the literature is looked up; the list of them.
6. `from_arguments.py`: a specification with a layer's arguments in it, and as a file holds it.
7. `options.py`: what a cell can have in addition to its formula (dropout, zoneout, layer_norm ...).
8. `onnx_operator.py`: which ONNX operator computes a cell, or why none does.
9. `equations.py`: a cell's equations in LaTeX and in plain text.
10. `describe.py`: the public functions that count, compare and describe cells.

`onnx_operator.py`, `equations.py` and `describe.py` read the normal form, not the specification.
"""
