"""python -m jdarts.derive: of finished, running and damaged searches."""

import os
import shutil
import signal

import command_line
import pytest
from small_runs import finish, read_until, undisturbed_run, user_settings
from small_search import PLAIN, SETTINGS, quick, searches, start

from jdarts import checkpoint
from jdarts.derive import genotype_of, main
from jdarts.errors import InputError
from jdarts.genotype import Genotype, parse_genotype
from jdarts.space import CELL_KINDS

__all__ = ["quick", "user_settings"]

#: Alphas are derived alike, whatever has moved them.
undisturbed = undisturbed_run(searches({**SETTINGS, **PLAIN})[1])

derive = command_line.fixture(main, "derive")


def test_a_run_its_checkpoints_and_one_of_them_give_the_final_genotype(undisturbed, derive):
    final = parse_genotype((undisturbed / "genotype.json").read_text())
    for path in (undisturbed, undisturbed / "checkpoints", undisturbed / "checkpoints/step_00000010"):
        code, out, err = derive(path)
        assert (code, err) == (0, "")
        assert parse_genotype(out) == final
        code, out, _ = derive(path, "--json")
        assert out.startswith("{")
        assert parse_genotype(out) == final
    code, out, _ = derive(undisturbed / "checkpoints/step_00000005")
    assert parse_genotype(out) == parse_genotype((undisturbed / "genotypes/epoch_001.json").read_text())


def test_fewer_edges(undisturbed, derive):
    code, out, _ = derive(undisturbed, "--edges-per-node", 1)
    assert (code, len(parse_genotype(out, Genotype).normal)) == (0, 1)
    code, out, err = derive(undisturbed, "--edges-per-node", 0)
    assert (code, out) == (2, "")
    assert err == "error: 0 edges per node; give 1 or more (the paper keeps 2)\n"


def test_a_place_that_is_neither_a_file_nor_a_folder(derive):
    code, out, err = derive("/dev/null")
    assert (code, out, err) == (2, "", "error: /dev/null is neither a file nor a run's folder; give one of them\n")


@pytest.mark.parametrize("suffix, start", [(".svg", b"<?xml"), (".png", b"\x89PNG")])
def test_a_drawing(suffix, start, undisturbed, derive, tmp_path):
    code, out, _ = derive(undisturbed, "--draw", tmp_path / f"cells{suffix}")
    assert code == 0
    assert out.startswith("Genotype(")
    assert (tmp_path / f"cells{suffix}").read_bytes().startswith(start)


def test_a_drawing_that_cannot_be(undisturbed, derive, tmp_path):
    code, out, err = derive(undisturbed, "--draw", tmp_path / "cells.bmp")
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert ".svg" in err and "cells.bmp" in err
    code, out, err = derive(undisturbed, "--draw", undisturbed / "genotype.txt" / "cells.svg")
    assert (code, out) == (2, "")
    assert err.startswith(f"error: cannot write {undisturbed}/genotype.txt")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(undisturbed, derive, tmp_path):
    folder = tmp_path / "copied elsewhere"
    shutil.copytree(undisturbed, folder)
    last = folder / "checkpoints/step_00000010"
    (last / checkpoint.RECORD).write_text("{}")
    code, out, err = derive(folder)
    assert code == 0
    assert err == f"skipped: checkpoint {last} is damaged (record.json has changed since it was written)\n"
    assert parse_genotype(out) == parse_genotype((undisturbed / "genotypes/epoch_001.json").read_text())
    code, out, err = derive(last)
    assert (code, out) == (2, "")
    assert err == (
        f"error: checkpoint {last} is damaged (record.json has changed since it was written); give another one, or the "
        "run's folder for its newest complete checkpoint\n"
    )


@pytest.mark.parametrize(
    ("cells", "kinds", "warned"),
    [(1, CELL_KINDS, True), (2, CELL_KINDS, True), (3, CELL_KINDS, False), (2, ("normal",), False)],
)
def test_a_search_that_had_no_normal_cell(cells, kinds, warned, undisturbed, derive, monkeypatch):
    """Searches of 1 or 2 cells could once be begun; what is shown of their normal cell is chance."""
    found = checkpoint.find(undisturbed, [])
    space = {**found.record["space"], **{kind: [] for kind in CELL_KINDS if kind not in kinds}}
    alphas = {kind: found.record["alphas"][kind] for kind in kinds}
    record = {**found.record, "config": {**found.record["config"], "cells": cells}, "space": space, "alphas": alphas}
    monkeypatch.setattr(checkpoint, "find", lambda *_: found._replace(record=record))
    code, _, err = derive(undisturbed)
    assert (code, "warning: this search had no normal cell" in err) == (0, warned)


def test_what_is_no_search(derive, tmp_path):
    code, _, err = derive(tmp_path / "nowhere")
    assert (code, err) == (2, f"error: {tmp_path}/nowhere does not exist; give a run's folder or a checkpoint in it\n")
    code, _, err = derive(tmp_path)
    expected = f"error: {tmp_path} holds no complete checkpoint; a search writes one at the end of each epoch\n"
    assert (code, err) == (2, expected)
    (tmp_path / "file").write_text("")
    assert derive(tmp_path / "file")[0] == 2
    for record in ({}, {"space": {}, "alphas": {}}, {"space": 1}, []):
        with pytest.raises(InputError, match="not that of a search for cells"):
            genotype_of(record)


def test_a_running_search(quick, derive, tmp_path):
    process = start(tmp_path / "run", **PLAIN, epochs=100000)
    try:
        read_until(process, "epoch      1/")
        code, out, err = derive(tmp_path / "run")
    finally:
        os.kill(process.pid, signal.SIGKILL)
        finish(process)
    assert (code, err) == (0, "")
    assert parse_genotype(out, Genotype).edges_per_node == 2
