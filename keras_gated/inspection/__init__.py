"""What the gates of a model do: their values over time, figures of them, and logs in training.

1. `traces.py`: `trace_gates`, and the numbers `half_life` and `saturation`.
2. `plots.py`: `plot_gates` and `plot_memory`.
3. `monitor.py`: `GateMonitor`, a callback for `fit`.
4. `rounds.py`: `newton_rounds`, how many rounds Newton's method in time takes.

`recorded_runs.py` calls a model so that its layers can be recorded.
"""
