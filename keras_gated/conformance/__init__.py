"""`check_cell`: does a recurrent cell, also one of the user, do what Keras, XLA and ONNX expect?

Read the files in this order:

1. `report.py`: what a check returns or raises, and the report.
2. `run_cell.py`: how a cell is run over time, compiled and differentiated on each backend.
3. `compare.py`: the difference of two runs.
4. `cell_copies.py`: `CellCopies`, which makes copies of the cell and holds the data of all checks.
5. `over_time.py`, `training.py`, `serialization.py`: the checks.
6. `check.py`: `check_cell`, with the list of all checks.
"""
