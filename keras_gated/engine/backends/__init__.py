"""What differs between TensorFlow, JAX and torch, under the same names."""
