"""The bilevel step of DARTS, for any loss, any pytrees and any optax optimisers (paper section 2.3).

Alphas minimise the validation loss of weights that minimise the training loss. One step replaces the inner minimum by
one step of the weight optimiser. With Δ(g) the update that this optimiser makes from a gradient g,

    w′ = w + Δ(∇w L_train(w, α)),   v = ∂L_val(w′, α)/∂w′,   u = (∂Δ/∂g)ᵀ v,
    d/dα L_val(w′(α), α) = ∂L_val(w′, α)/∂α + ∇²αw L_train(w, α) · u.

`u` is one `jax.vjp` through `optimizer.update`, so momentum, weight decay, clipping and schedules are all differentiated; for
plain SGD it is −ξv and the formula is the paper's equation 7. The estimators differ in the last product. If the optimiser also
reads the value of the loss, they add s · ∂αL_train(w, α), where s is the derivative of its update by that value.
"""

from jdarts.bilevel.curvature import Curvature, alpha_hessian, largest_eigenvalue
from jdarts.bilevel.estimators import exact, finite_difference, first_order, unrolled
from jdarts.bilevel.foresight import Foresight, foresight
from jdarts.bilevel.neumann import neumann
from jdarts.bilevel.problem import Estimate, HypergradientFn, LossFn, Metrics, Problem, PyTree
from jdarts.bilevel.slope_check import check_slopes
from jdarts.bilevel.step import BilevelState, Order, WeightChange, WeightGradients, WeightRule, bilevel_step, init_state

__all__ = [
    "BilevelState",
    "Curvature",
    "Estimate",
    "Foresight",
    "HypergradientFn",
    "LossFn",
    "Metrics",
    "Order",
    "Problem",
    "PyTree",
    "WeightChange",
    "WeightGradients",
    "WeightRule",
    "alpha_hessian",
    "bilevel_step",
    "check_slopes",
    "exact",
    "finite_difference",
    "first_order",
    "foresight",
    "init_state",
    "largest_eigenvalue",
    "neumann",
    "unrolled",
]
