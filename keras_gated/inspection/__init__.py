"""What the gates of a model do over time: traces, figures, a callback."""
