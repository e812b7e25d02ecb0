"""Does a recurrent cell, the user's own too, do what Keras, XLA and ONNX expect of one?"""
