"""The command line, keras-gated."""
