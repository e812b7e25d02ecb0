"""What a cell is: gates, ties, the candidate, and what follows from them. No tensors."""
