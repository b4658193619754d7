"""Search spaces by name and from files, as `--space` takes them."""

import json

import pytest
from small_search import config

from jdarts import zoo
from jdarts.describe import describe
from jdarts.describe.command import main as describe_command
from jdarts.errors import InputError
from jdarts.named_spaces import SPACES, find_space, recorded_space
from jdarts.space import darts_space

EDGES = [["skip_connect", "sep_conv_3x3"], ["skip_connect"]]
TABLES = {"normal": EDGES, "reduce": EDGES}
#: Weights of RobustDARTS's search networks of 16 channels and 8 cells.
WEIGHTS = {"s1": 405_146, "s2": 665_466, "s3": 665_466, "s4": 624_506}


@pytest.fixture
def file(tmp_path):
    return tmp_path / "space.json"


@pytest.mark.parametrize(("name", "weights"), WEIGHTS.items())
def test_published_spaces_have_their_published_weights(name, weights):
    found = describe(zoo.DARTS_V2, "search", channels=16, cells=8, space=find_space(name))
    assert found.to_json()["params"] == weights


def test_the_command_counts_a_space(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["describe", "DARTS_V2", "--network", "search", "--space", "s1", "--json"])
    describe_command()
    assert json.loads(capsys.readouterr().out)["params"] == WEIGHTS["s1"]
    monkeypatch.setattr("sys.argv", ["describe", "DARTS_V2", "--space", "s1"])
    with pytest.raises(InputError, match="--space is for the search network, and this is the cifar network"):
        describe_command()


def test_files_hold_one_space_or_several_by_name(file):
    file.write_text(json.dumps({**TABLES, "concat": [2], "_about": "mine"}))
    found = find_space(str(file))
    assert (found.normal, found.concat) == ((("skip_connect", "sep_conv_3x3"), ("skip_connect",)), (2,))
    first = recorded_space(str(file))
    file.write_text(json.dumps({"mine": TABLES}))
    assert find_space(f"{file}:mine") == found
    # The content decides, not the name of the file.
    assert recorded_space(f"{file}:mine") == first and first.startswith("sha256:")
    assert recorded_space("s3") == "s3" and find_space("darts") == darts_space()


WRONG = {
    "a list": ([1], "is not a JSON object; give {"),
    "no cells": ({"edges": []}, "has no normal and reduce; give {"),
    "several": ({"a": TABLES, "b": TABLES}, "has no normal and reduce; give FILE:NAME with a name of a, b"),
    "a field": ({**TABLES, "conact": [2]}, "has the field 'conact'; known are normal, reduce, concat"),
    "a table": ({**TABLES, "normal": "skip_connect"}, "normal is 'skip_connect'; give a list of the operations of each edge"),
    "a number": ({**TABLES, "normal": [[3], EDGES[1]]}, "normal names the operation 3; give texts"),
    "an operation": ({**TABLES, "reduce": [["sepconv"], EDGES[1]]}, "unknown operation 'sepconv' on edge 0 of the reduc"),
    "edges": ({**TABLES, "normal": EDGES[:1]}, "1 edges in the normal cell, 2 in the reduction cell"),
    "states": ({**TABLES, "concat": [1]}, "concat is (1,); give each of the node states 2 to 2"),
    "a concat": ({**TABLES, "concat": 2}, "concat is 2; give a list of states"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "words"), WRONG.values(), ids=list(WRONG))
def test_wrong_files_are_explained(file, content, words):
    file.write_text(json.dumps(content))
    with pytest.raises(InputError) as caught:
        find_space(str(file))
    assert str(caught.value).startswith(f"--space {file}")
    assert words.replace("FILE", str(file)) in str(caught.value)


def test_what_is_no_space_is_explained(file):
    with pytest.raises(InputError, match=r"--space is S1; did you mean s1\? give one of darts, s1"):
        find_space("S1")
    with pytest.raises(InputError, match=r"--space is \{a+…; give one of darts, s1"):
        find_space("{" + 300 * "a")
    file.write_text("{")
    with pytest.raises(InputError, match=r"is not JSON .*; give \{"):
        find_space(str(file))
    with pytest.raises(InputError, match=r"cannot read --space .*: Is a directory"):
        find_space(str(file.parent))
    file.write_text(json.dumps({"mine": TABLES}))
    with pytest.raises(InputError, match="has no space other; it has mine"):
        find_space(f"{file}:other")


def test_a_search_has_its_space_or_operations_and_nodes(tmp_path, file):
    usual = {"operations": darts_space().normal[0], "nodes": 4}
    for name in SPACES:
        settings = config(tmp_path, space=name, **usual)
        settings.check()
        assert settings.search_space == find_space(name)
        assert settings.to_json()["space"] == name
    config(tmp_path, space="s1", **{**usual, "operations": usual["operations"][1:]}).with_method("sdarts_rs").check()
    for name, value in (("nodes", 2), ("operations", ("none", "noise"))):
        with pytest.raises(InputError, match=rf"--{name} is .*, and --space s1 has its own; leave one of the two out"):
            config(tmp_path, space="s1", **{**usual, name: value}).check()
    with pytest.raises(InputError, match="--dropped-operations is 3 2, and each edge has 2 --operations"):
        config(tmp_path, space="s1", **usual, epochs=3).with_method("p_darts").check()
    file.write_text(json.dumps({"normal": EDGES, "reduce": [["noise"], ["noise"]]}))
    with pytest.raises(InputError, match="has one operation on each edge of the reduce cell"):
        config(tmp_path, space=str(file), **usual).check()
