"""Measures steps side by side: one process for each, taken in turn."""
