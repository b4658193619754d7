"""Cells as text, and the sizes of networks of them; `python -m jdarts.describe` is the command."""
