"""Gated recurrent layers for Keras 3 in which every gate is configuration."""

from keras_gated import catalogue as _catalogue  # noqa: F401 - fills the presets
