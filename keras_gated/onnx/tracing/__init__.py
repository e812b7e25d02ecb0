"""From a Keras model to a TensorFlow graph in which each recurrent layer is one marked node."""
