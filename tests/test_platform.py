"""The platform that programs are compiled for."""

import jax
import pytest

from jdarts.nets.supernet import supernet_compiler_options
from jdarts.xla.platform import compiling_for, target_platform


def test_without_a_name_it_is_that_of_the_default_device():
    assert target_platform() == jax.default_backend()


def test_a_named_platform_ends_with_its_block_even_after_an_error():
    with pytest.raises(ValueError), compiling_for("gpu"):
        assert target_platform() == "gpu"
        raise ValueError
    assert target_platform() == jax.default_backend()


@pytest.mark.parametrize(("platform", "options"), [("cpu", 1), ("gpu", 0), ("tpu", 0)])
def test_options_of_the_compiler_for_cpus_go_to_cpus_alone(platform, options):
    with compiling_for(platform):
        assert len(supernet_compiler_options(remat=True)) == options


def test_a_function_that_was_traced_for_one_platform_is_traced_again_for_another():
    program = jax.jit(lambda x: x + len(target_platform()) * (target_platform() == "gpu"))
    assert program(1) == 1
    with compiling_for("gpu"):
        assert program(1) == 4
    assert program(1) == 1
