"""Measures speed and memory: `python -m benchmarks --help`.

- `__main__.py`: the command; what all commands share. `run.py`, `contenders.py`, `others.py`,
  `sizes.py`, `measure.py` and `report.py`: its parts.
- `cells.py`: `python -m benchmarks.cells`, every preset.
- `onnx.py`; `device.py`, `streams.py`: `python -m benchmarks.onnx`, `python -m benchmarks.device`.
- `gpu.py`, `gpu_parts.py`, `gpu_device.py`, `gpu_report.py`: `python -m benchmarks.gpu`.
"""
