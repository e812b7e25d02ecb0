"""Recurrent layers of Keras and torch as gated layers with the same weights, and back to Keras.

1. `keras_layers.py`: one layer of Keras and the gated layer that computes the same.
2. `layer_copies.py`: copies of the other layers of a model, with all their state.
3. `same_mask.py`: calls in a converted model, with the mask that the original used.
4. `comparison.py`: a converted model compared with the original.
5. `conversion.py`: a model rebuilt with other recurrent layers.
6. `other_cells.py`: other cells in the layers of a model.
7. `keras_models.py`: `from_keras` and `to_keras`, for layers, wrappers and models.
8. `torch_modules.py`: `from_torch`.
"""
