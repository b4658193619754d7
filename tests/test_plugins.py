"""Files of one's own that register operations, before commands read genotypes, spaces and checkpoints."""

import sys

import pytest
import small_search
from small_runs import user_settings as user_settings
from small_search import quick as quick

import jdarts
from jdarts import checkpoint, operations, plugins
from jdarts.derivation import genotype_of
from jdarts.describe.command import main as describe
from jdarts.errors import InputError
from jdarts.operations import ACTIVATIONS, OPERATIONS
from jdarts.resolve import find_genotype
from jdarts.search import SearchConfig

SOURCE = """
import jax.numpy as jnp
import jdarts

jdarts.register_operation("negative", lambda x, weights, stride: -x[:, ::stride, ::stride], family="skip")
jdarts.register_activation("sine", jnp.sin)
"""
NAMES = ("none", "negative", "skip_connect", "max_pool_3x3")


@pytest.fixture(autouse=True)
def nothing_left():
    """Plug-ins of a test are gone after it."""
    yield
    forget()


def forget():
    operations.unregister_operations(["negative", "sine"])
    plugins._loaded.clear()


@pytest.fixture
def plugin(tmp_path):
    path = tmp_path / "my_ops.py"
    path.write_text(SOURCE)
    return path


def test_a_plugin_runs_once_and_its_file_is_known_by_its_checksum(plugin):
    found = jdarts.load_plugin(plugin)
    assert found.name == "my_ops.py" and len(found.checksum) == 64
    assert "negative" in OPERATIONS and "sine" in ACTIVATIONS
    assert jdarts.load_plugin(str(plugin)) == found
    plugin.write_text(SOURCE + "\n")
    with pytest.raises(InputError, match="has changed since this process ran it; start a new process"):
        jdarts.load_plugin(plugin)


def test_a_plugin_may_be_a_module(plugin, monkeypatch):
    monkeypatch.syspath_prepend(str(plugin.parent))
    assert jdarts.load_plugin("my_ops").name == "my_ops"
    assert "negative" in OPERATIONS
    del sys.modules["my_ops"]


WRONG = {
    "a name": ("undefined", "my_ops.py: line 7: NameError: name 'undefined' is not defined"),
    "no Python": ("x = (", r"my_ops.py: line 7 is not Python \('\(' was never closed\)"),
    "its operation": (
        'jdarts.register_operation("skip_connect", 1)',
        "my_ops.py: operation skip_connect: the name is taken",
    ),
    "its arguments": ("jdarts.register_operation()", "my_ops.py: line 7: TypeError: register_operation"),
}


@pytest.mark.parametrize(("line", "words"), WRONG.values(), ids=list(WRONG))
def test_a_plugin_that_fails_is_explained_and_leaves_nothing(plugin, line, words):
    before = [*OPERATIONS, *ACTIVATIONS]
    plugin.write_text(f"{SOURCE}{line}")
    with pytest.raises(InputError, match=words):
        jdarts.load_plugin(plugin)
    assert [*OPERATIONS, *ACTIVATIONS] == before


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("none.py", "cannot read --plugin none.py: No such file"),
        ("no_such_module", "--plugin is no_such_module, and there is no such file or module"),
        ("no.such.module", "--plugin is no.such.module, and there is no such file or module"),
        ("my ops", "--plugin is my ops; give a Python file"),
    ],
)
def test_a_plugin_that_is_not_there_is_explained(name, words):
    with pytest.raises(InputError, match=words):
        jdarts.load_plugin(name)


def test_a_run_records_its_plugin_and_its_checkpoint_names_it(tmp_path, plugin, quick):
    folder = tmp_path / "run"
    settings = {"operations": NAMES, "epochs": 1, **small_search.PLAIN}
    with pytest.raises(InputError, match=r"--operations names negative; .* for one of your own give --plugin FILE"):
        small_search.config(folder, **settings).check()
    small_search.run(folder, plugin=(str(plugin),), **settings)
    record = checkpoint.find(folder, []).record
    recorded = f"my_ops.py sha256:{jdarts.load_plugin(plugin).checksum[:16]}"
    assert record["config"]["plugin"] == [recorded]
    assert find_genotype(str(folder)).nodes("normal")

    forget()
    with pytest.raises(
        InputError, match=r"names the operation negative, which is not registered; give --plugin my_ops.py"
    ):
        genotype_of(record)
    plugin.write_text(SOURCE + "\n")
    with pytest.raises(InputError, match=rf"other settings: --plugin {recorded} \(now my_ops.py sha256:"):
        small_search.run(folder, plugin=(str(plugin),), **settings)


def test_a_run_without_a_plugin_is_not_resumed_with_one(tmp_path, plugin, quick):
    small_search.run(tmp_path / "run", epochs=1, **small_search.PLAIN)
    with pytest.raises(InputError, match=r"--plugin none \(now my_ops.py"):
        small_search.run(tmp_path / "run", epochs=1, plugin=(str(plugin),), **small_search.PLAIN)


def test_commands_take_plugins(plugin, monkeypatch, capsys):
    edges = "[('negative', 0), ('negative', 1)]"
    text = f"Genotype(normal={edges}, normal_concat=[2], reduce={edges}, reduce_concat=[2])"
    with pytest.raises(InputError, match=r"unknown operation 'negative' in normal; .* give --plugin FILE"):
        find_genotype(text)
    monkeypatch.setattr("sys.argv", ["describe", text, "--channels", "4", "--cells", "3", "--plugin", str(plugin)])
    describe()
    assert "negative" in capsys.readouterr().out
    assert SearchConfig(plugin=(str(plugin),)).to_json()["plugin"]
