"""Smaller gates for a trained model: what can go, what it costs, and the model without it.

1. `steps.py`: how one gate can become smaller, as data.
2. `recording.py`: what the gates saw on data.
3. `fit.py`: the weights of a smaller gate.
4. `model_graph.py` and `units.py`: which units can go, and who reads them.
5. `reduced_model.py`: the smaller model.
6. `reduce_gates.py`: `reduce_gates`.
7. `gate_rows.py`, `survey.py` and `gate_report.py`: `gate_report`, what each step costs.
8. `search.py` and `slim.py`: `slim`, which takes steps and trains in between. `search_log.py`
   records it, and `slim_result.py` is what it returns, with `files.py` and `figures.py`.
"""
