"""Networks: pure functions of weights, alphas and inputs."""
