"""Stage 1 of an export: a Keras model becomes a TensorFlow graph with stubs for its layers."""
