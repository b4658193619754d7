"""The check of derivatives finds every kind of wrong one."""

import jax
import jax.numpy as jnp
import pytest
from derivative_checks import check_derivatives

INPUTS = (jnp.asarray([0.3, -0.7]), {"b": jnp.asarray(1.5)})


def with_rule(tangent):
    """A sine whose derivative is this function of the place and the direction."""

    @jax.custom_jvp
    def sine(x):
        return jnp.sin(x)

    sine.defjvp(lambda at, along: (jnp.sin(at[0]), tangent(at[0], along[0])))
    return lambda x, other: {"y": sine(x) * other["b"], "z": other["b"] ** 2}


def test_right_derivatives_pass():
    check_derivatives(with_rule(lambda x, along: jnp.cos(x) * along), INPUTS, order=3)


@pytest.mark.parametrize(
    ("tangent", "order", "what"),
    [
        (lambda x, along: 1.01 * jnp.cos(x) * along, 1, "tangents of the function"),
        (lambda x, along: jax.lax.stop_gradient(jnp.cos(x)) * along, 2, "tangents of the tangents of the function"),
    ],
)
def test_wrong_tangents_are_found(tangent, order, what):
    with pytest.raises(AssertionError, match=f"{what}$|{what}\n"):
        check_derivatives(with_rule(tangent), INPUTS, order=order)
    if order > 1:
        check_derivatives(with_rule(tangent), INPUTS, order=order - 1)


def test_wrong_gradients_are_found():
    """A product with a matrix whose transpose is another one, as a rule that is linear may have it."""

    @jax.custom_jvp
    def product(x):
        return 2 * x

    def turned(x):
        return jax.custom_derivatives.linear_call(lambda _, x: 2 * x, lambda _, ct: 3 * ct, (), x)

    product.defjvp(lambda at, along: (2 * at[0], turned(along[0])))
    with pytest.raises(AssertionError, match="gradients of the function"):
        check_derivatives(product, (jnp.asarray([0.3, -0.7]),), order=1)
