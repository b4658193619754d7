"""DARTS in PyTorch, edge by edge: what jdarts is measured against."""
