"""python -m jdarts.describe for recurrent cells: the known counts, a count by hand, and which kind of network is meant."""

import dataclasses
import json

import command_line
import numpy as np
import pytest

from jdarts import checkpoint, zoo
from jdarts.derivation import derive_recurrent_genotype
from jdarts.describe.command import main
from jdarts.describe.recurrent import describe_recurrent
from jdarts.genotype import RecurrentGenotype
from jdarts.space import recurrent_space

SMALL = RecurrentGenotype((("tanh", 0), ("identity", 1), ("relu", 0)), (1, 3))
SMALL_COUNT = 7 * 4 + 7 + 8 * 8 + 3 * 4 * 8


command = command_line.fixture(main, "describe")


# reference/darts.md, section 2.3: the networks of 8 nodes, and ENAS's 11 nodes in the same network.
@pytest.mark.parametrize(
    ("name", "network", "weights"),
    [
        ("DARTS_V2", "search-ptb", 4_810_000),
        ("DARTS_V1", "ptb", 22_960_000),
        ("DARTS_V2", "wikitext2", 33_127_878),
        ("ENAS", "ptb", 27_295_000),
    ],
)
def test_known_numbers(name, network, weights, command):
    code, out, err = command(name, "--network", network, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["params"] == weights == sum(part["params"] for part in found["parts"].values())
    assert (found["network"], found["genotype"]) == (network, json.loads(zoo.RECURRENT_CELLS[name].to_json()))


@pytest.mark.parametrize("network", ["ptb", "wikitext2", "search-ptb"])
def test_a_count_by_hand(network):
    assert describe_recurrent(SMALL, network, vocabulary=7, width=4).weights == SMALL_COUNT


def test_the_text_and_the_drawing(command, tmp_path):
    code, out, err = command(SMALL, "--vocabulary", 7, "--width", 4, "--draw", tmp_path / "cell.svg")
    assert (code, err) == (0, "")
    cell = [
        "node 0 = tanh(x_t, h_{t-1})",
        "node 1 = tanh(node 0)",
        "node 2 = identity(node 1)",
        "node 3 = relu(node 0)",
    ]
    assert "\n".join(["Recurrent cell", *(f"  {line}" for line in cell), "  h_t = mean(node 1, node 3)\n"]) in out
    assert f"ptb network: 7 words, width 4, the embedding is the output matrix too\nweights  {SMALL_COUNT}\n" in out
    assert (tmp_path / "cell.svg").stat().st_size


def run_folder(folder):
    """A search that has not ended."""
    space, alphas = recurrent_space(nodes=3), np.random.default_rng(0).normal(size=(6, 5))
    record = {"space": dataclasses.asdict(space), "alphas": alphas.tolist()}
    checkpoint.save(folder / "checkpoints", 7, {"a": np.ones(2)}, record)
    return derive_recurrent_genotype(alphas, space)


def test_what_is_recurrent_gets_a_recurrent_network(command, tmp_path):
    (tmp_path / "cell.txt").write_text(f"{SMALL}\n")
    derived = run_folder(tmp_path / "run")
    forms = [
        ("ENAS", zoo.ENAS),
        (str(SMALL), SMALL),
        (SMALL.to_json(), SMALL),
        (tmp_path / "cell.txt", SMALL),
        (tmp_path / "run", derived),
        (tmp_path / "run/checkpoints/step_00000007", derived),
    ]
    for form, genotype in forms:
        code, out, err = command(form, "--json")
        assert (code, err) == (0, "")
        found = json.loads(out)
        assert (found["network"], found["genotype"]) == ("ptb", json.loads(genotype.to_json()))
    assert derived != SMALL


def test_a_name_of_both_kinds_is_of_the_network_s(command):
    small = ("--channels", 4, "--cells", 3)
    assert json.loads(command("DARTS", *small, "--json")[1])["network"] == "cifar"
    assert command("DARTS", "--network", "search-ptb")[1].startswith(str(zoo.DARTS_V2_RECURRENT))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ENAS", "--network", "cifar"], "error: the genotype is a recurrent cell, the cifar network is one of conv"),
        (["run", "--network", "search"], "give --network ptb, wikitext2 or search-ptb, or leave it out"),
        (
            ["NASNet", "--network", "ptb"],
            "one of recurrent cells; give --network cifar, imagenet, search or search-imagenet, or leave it out",
        ),
        (["ENAS", "--channels", "4"], "the ptb network is one of recurrent cells; leave --channels out"),
        (["DARTS_V2", "--width", "4"], "error: --width is for networks of recurrent cells, the cifar network is one of"),
        (["ENAS", "--width", "0"], "error: --width is 0; give 1 or more"),
        (["ENAS", "--vocabulary", "-1"], "error: --vocabulary is -1; give 1 or more"),
        (["ENS"], "error: no genotype 'ENS'; did you mean ENAS?"),
        (["Genotype(recurrent=[('tan', 0)], concat=[1])"], "unknown operation 'tan' in recurrent; known are tanh"),
        (["RUN"], "the text form Genotype(normal=[…], …) or Genotype(recurrent=[…], concat=…)"),
    ],
)  # fmt: skip
def test_wrong_input(command, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_folder(tmp_path / "run")
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    assert message in err and err.count("\n") == 1


@pytest.mark.parametrize(("searched", "network"), [(True, "search-ptb"), (False, "ptb")])
def test_the_folder_of_a_run_on_text_tells_its_sizes(searched, network, tmp_path, command):
    record = {"network": {"vocabulary": 7, "width": 4}}
    space = recurrent_space(nodes=3)
    if searched:
        record |= {"space": dataclasses.asdict(space), "alphas": np.eye(*(space.num_edges, space.width)).tolist()}
    else:
        record |= {"genotype": json.loads(SMALL.to_json())}
    checkpoint.save(tmp_path / "run/checkpoints", 1, {"a": np.ones(2)}, record)

    def described(*options):
        code, out, err = command(tmp_path / "run", "--json", *options)
        assert (code, err) == (0, "")
        return json.loads(out)

    found = described()
    assert (found["network"], found["vocabulary"], found["width"]) == (network, 7, 4)
    assert found["params"] == SMALL_COUNT
    assert described("--width", 5)["width"] == 5
    assert described("--network", "wikitext2")["width"] == 700


def test_a_folder_with_nothing_but_the_genotype(tmp_path, command):
    (tmp_path / "genotype.json").write_text(SMALL.to_json())
    code, out, err = command(tmp_path, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["width"] == 850
