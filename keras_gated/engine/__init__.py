"""How a cell is run over time: the formula, the loop, its gradient. It knows no preset."""
