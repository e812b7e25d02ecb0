"""Recurrent layers of Keras and torch as gated layers with the same weights, and back to Keras.

1. `keras_layers.py`: one layer of Keras and the gated layer that computes the same.
2. `keras_models.py`: `from_keras` and `to_keras`, for layers, wrappers and models.
3. `torch_modules.py`: `from_torch`.
"""
