"""Gated layers from Keras's and torch's recurrent layers, and back."""
