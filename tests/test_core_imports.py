"""What `import jdarts` and a bilevel step bring along: nothing beyond JAX, Flax, optax and chex, and no work."""

import os
import subprocess
import sys

CORE = "import chex, flax, flax.struct, jax, jax.numpy as jnp, numpy, optax"

#: The parts of jdarts that the core is made of; a notebook with a bilevel problem needs no other.
PARTS = {
    "bilevel",
    "budget",
    "derivation",
    "errors",
    "files",
    "genotype",
    "methods",
    "native",
    "operations",
    "ops",
    "parallel",
    "relaxation",
    "rich_forms",
    "space",
    "xla",
    "zoo",
}

STEP = """
def loss(weights, alphas, model_state, batch, key):
    value = jnp.sum((weights * alphas - batch) ** 2)
    return value, (model_state, {"loss": value})

optimizers = dict(weight_optimizer=optax.sgd(0.1, momentum=0.9), alpha_optimizer=optax.adam(0.1))
state = jdarts.init_state(jax.random.key(0), jnp.ones(2), jnp.ones(2), (), **optimizers)
jax.make_jaxpr(lambda state: jdarts.bilevel_step(state, jnp.zeros(2), jnp.ones(2), loss_fn=loss, **optimizers))(state)
"""

ALL = """
import importlib, pkgutil
import jdarts

for module in pkgutil.walk_packages(jdarts.__path__, "jdarts."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""

#: Ends at what a module may not do while it is imported.
WATCHED = """
import sys

def watch(event, args):
    written = event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+")
    if written or event in ("os.mkdir", "subprocess.Popen", "os.posix_spawn", "socket.connect", "_thread.start_new_thread"):
        raise RuntimeError(f"work at import: {event} {args}")

sys.addaudithook(watch)
"""


def output_of(program, **environment):
    """What a program prints in a process of its own."""
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env, timeout=300)
    return done.stdout, done.stderr, done.returncode


def test_the_core_imports_nothing_beyond_its_four_libraries():
    shown = "import sys; before = {*sys.modules}"
    found = "print(*sorted({*sys.modules} - before))"
    printed, errors, code = output_of(f"{CORE}\n{shown}\nimport jdarts\n{STEP}\n{found}")
    assert code == 0, errors
    names = printed.split()
    rooms = {name.split(".")[1] for name in names if name.startswith("jdarts.")}
    assert rooms <= PARTS
    own = ("jdarts", "jax", "jaxlib", "flax", "optax", "chex", "numpy")
    others = {root for name in names if (root := name.split(".")[0]) not in (*own, *sys.stdlib_module_names)}
    assert others == set()


def test_rooms_beside_the_core_are_there_when_they_are_asked_for():
    shown = "jdarts.load.__module__, jdarts.data.load.__module__, hasattr(jdarts, 'no_such')"
    program = f"import jdarts; print({shown}, all(hasattr(jdarts, name) for name in jdarts.__all__))"
    printed, errors, code = output_of(program)
    assert (code, printed.split()) == (0, ["jdarts.trained.loading", "jdarts.data.loading", "False", "True"]), errors


def test_no_module_touches_a_device_when_it_is_imported():
    """JAX has no device here: whatever asks for one fails."""
    printed, errors, code = output_of(
        f"{ALL}\nprint('imported')\nimport jax; jax.numpy.zeros(())", JAX_PLATFORMS="none_such"
    )
    assert printed == "imported\n", errors
    assert code and "none_such" in errors


def test_the_core_does_no_work_when_it_is_imported():
    _, errors, code = output_of(f"{CORE}\n{WATCHED}\nimport jdarts")
    assert code == 0, errors
    _, errors, code = output_of(f"{WATCHED}\nopen('/dev/null', 'w')")
    assert code and "work at import" in errors
