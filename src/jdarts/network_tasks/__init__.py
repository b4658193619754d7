"""What the user's own network learns: its loss, its metrics and its batches, for a search and for a training."""
