"""What a network of the user's own learns: its loss, its metrics and its batches, for a search and for a training."""
