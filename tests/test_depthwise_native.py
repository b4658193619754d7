import os

import numpy as np
import pytest
from small_runs import run_in_a_process

from jdarts import native

CHECKSUMS = """
import os, sys
if len(sys.argv) > 1:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import hashlib, jax, numpy as np
from jdarts.ops.depthwise import depthwise_conv
from jdarts.ops.separable import separable_conv

def gradients(x, kernels):
    # Independent convolutions, so that several calls are under way at once.
    outputs = [depthwise_conv(x, (n + 1) * kernels, dilation=1 + n % 2) for n in range(6)]
    def loss(*o):
        matrices = np.ones((6, 24, 16), np.float32)
        y = separable_conv(*o, matrices, rectified=True)
        return sum((depthwise_conv(*o, dilation=1 + n) ** 2).sum() for n in (0, 1)) + (y ** 2).sum()

    return outputs, jax.grad(loss, (0, 1))(x, kernels)

x = np.random.default_rng(0).standard_normal((2, 4, 32, 32, 24)).astype(np.float32)
kernels = np.random.default_rng(1).standard_normal((2, 3, 5, 5, 24)).astype(np.float32)
run = jax.jit(gradients)
for _ in range(5):
    leaves = jax.tree.leaves(run(x, kernels))
    print(hashlib.sha256(b"".join(np.asarray(a).tobytes() for a in leaves)).hexdigest())
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs processor affinities")
def test_results_are_bit_identical_whatever_the_threads():
    """Over repeated calls, with all threads, and with one on one core (which must not wait for others)."""
    if native.lowering("depthwise_forward", np.dtype(np.float32)) is None:
        pytest.skip("no native library can be built here")
    sums = set()
    for options, flags in (([], ""), (["one"], "--xla_cpu_multi_thread_eigen=false"), (["one"], "")):
        code, shown, errors = run_in_a_process("-c", CHECKSUMS, *options, XLA_FLAGS=flags)
        assert code == 0, errors
        lines = shown.split()
        assert len(lines) == 5
        sums |= set(lines)
    assert len(sums) == 1
