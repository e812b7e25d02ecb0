"""The command line, keras-gated.

`main.py` runs a command. `cells.py`, `doctor.py`, `models.py`, `gates.py` and `bench.py` have the
commands, `command.py` has what they share, and `data_files.py` reads data.

`keras-gated --help` and the commands about presets must not import Keras, which takes seconds. So
these files import Keras, and modules that do, only inside functions. `import_keras.py` comes first
there. `layer_times.py` is the part of `bench.py` that needs Keras.
"""
