"""What `import jdarts` and a bilevel step bring along: nothing beyond JAX, Flax, optax and chex, and no work."""

import json
import os
import subprocess
import sys

import pytest

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

#: What sets of images need only where they are prepared, and commands.
HEAVY = ("tensorflow_datasets", "sklearn", "scipy", "PIL", "tyro")

STEP = """
def loss(weights, alphas, model_state, batch, key):
    value = jnp.sum((weights * alphas - batch) ** 2)
    return value, (model_state, {"loss": value})

optimizers = dict(weight_optimizer=optax.sgd(0.1, momentum=0.9), alpha_optimizer=optax.adam(0.1))
state = jdarts.init_state(jax.random.key(0), jnp.ones(2), jnp.ones(2), (), **optimizers)
jax.make_jaxpr(lambda state: jdarts.bilevel_step(state, jnp.zeros(2), jnp.ones(2), loss_fn=loss, **optimizers))(state)
"""

#: Ends at what a module may not do while it is imported.
WATCHED = """
import contextlib, sys

is_watched = False

def watch(event, args):
    written = event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+")
    work = ("os.mkdir", "subprocess.Popen", "os.posix_spawn", "socket.connect", "_thread.start_new_thread")
    if is_watched and (written or event in work):
        raise RuntimeError(f"work at import: {event} {args}")

@contextlib.contextmanager
def watched():
    global is_watched
    is_watched = True
    yield
    is_watched = False

sys.addaudithook(watch)
"""

#: The core and nothing else, a step with it, a set of images, and the names of all rooms: each after the one before.
GROWING = f"""
import json, sys
{CORE}
before = {{*sys.modules}}
with watched():
    import jdarts
{STEP}
names = sorted({{*sys.modules}} - before)
import jdarts.data
jdarts.data.load("digits")
print(json.dumps({{
    "core": names,
    "heavy": [name for name in {HEAVY} if name in sys.modules],
    "load": [jdarts.load.__module__, jdarts.data.load.__module__],
    "missing": [name for name in jdarts.__all__ if not hasattr(jdarts, name)],
    "no_such": hasattr(jdarts, "no_such"),
}}))
with watched():
    open("/dev/null", "w")
"""

ALL = """
import importlib, pkgutil
import jdarts

for module in pkgutil.walk_packages(jdarts.__path__, "jdarts."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""


def output_of(program, **environment):
    """What a program prints in a process of its own."""
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env, timeout=300)
    return done.stdout, done.stderr, done.returncode


@pytest.fixture(scope="module")
def grown():
    """What one process tells of its modules as it imports more and more, and its errors."""
    printed, errors, code = output_of(f"{WATCHED}\n{GROWING}")
    assert printed, errors
    return json.loads(printed), errors, code


def test_the_core_imports_nothing_beyond_its_four_libraries(grown):
    names = grown[0]["core"]
    rooms = {name.split(".")[1] for name in names if name.startswith("jdarts.")}
    assert "bilevel" in rooms and rooms <= PARTS
    own = ("jdarts", "jax", "jaxlib", "flax", "optax", "chex", "numpy")
    others = {root for name in names if (root := name.split(".")[0]) not in (*own, *sys.stdlib_module_names)}
    assert others == set()


def test_sets_of_images_import_nothing_heavy(grown):
    assert grown[0]["heavy"] == []


def test_rooms_beside_the_core_are_there_when_they_are_asked_for(grown):
    assert grown[0]["load"] == ["jdarts.trained.loading", "jdarts.data.loading"]
    assert (grown[0]["missing"], grown[0]["no_such"]) == ([], False)


def test_the_core_does_no_work_when_it_is_imported(grown):
    """Its import gets through where work would end it, as it does in the end."""
    _, errors, code = grown
    assert code and "work at import: open ('/dev/null'" in errors


def test_no_module_touches_a_device_when_it_is_imported():
    """JAX has no device here: whatever asks for one fails."""
    printed, errors, code = output_of(
        f"{ALL}\nprint('imported')\nimport jax; jax.numpy.zeros(())", JAX_PLATFORMS="none_such"
    )
    assert printed == "imported\n", errors
    assert code and "none_such" in errors
