"""What is there for XLA and for JAX's inner workings alone: no mathematics, no networks, no runs."""
