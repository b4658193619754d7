"""Folders of runs with made-up numbers, written as the loop writes them, without any search."""

import itertools
import json
import math

import numpy as np
import pytest

from jdarts.data.thumbnails import thumbnail
from jdarts.derivation import derive_genotype, derive_recurrent_genotype
from jdarts.methods.mixture_record import mixture_record
from jdarts.methods.verdict import verdict_of_alphas
from jdarts.relaxation import SOFTMAX
from jdarts.report.mistakes import Confusion, Mistake, MistakeRecord
from jdarts.runs.folder import genotype_file, mixture_file
from jdarts.search import SearchConfig
from jdarts.space import RECURRENT_PRIMITIVES, RecurrentSpace, recurrent_space

#: A text that must show as text.
EVIL = "<script>alert(1)</script>"
VERSIONS = {"jdarts": "0.1.0", "jax": "0.10.1", "numpy": "2.4.6"}
DATA = {
    "name": "digits",
    "shape": [8, 8, 1],
    "train": 1437,
    "test": 360,
    "class_names": ["0", "1"],
    "sha256": "ec895b24",
}


@pytest.fixture
def without_vega(monkeypatch):
    """Pages with charts, without the script of Vega: it takes seconds to bundle where it is not kept."""
    monkeypatch.setattr("jdarts.report.html.template.script", lambda: "")
    for module in ("run_page", "comparison_page"):
        monkeypatch.setattr(f"jdarts.report.html.{module}.can_draw", lambda: True)


def search(
    folder, *, epochs=3, seed=0, nodes=2, steps=20, ended=True, recurrent=False, mixtures=True, verdict=True, **changes
):
    """A search whose alphas drift from equal weights towards one operation.

    Args:
      folder: of the run.
      epochs: finished epochs.
      seed: of the numbers.
      nodes: of a cell.
      steps: records of single steps in an epoch.
      ended: whether it has finished; else it was interrupted.
      recurrent: whether it searches a recurrent cell.
      mixtures: whether it is new enough to keep its mixtures.
      verdict: whether it is new enough to have a verdict.
      changes: to its settings.
    """
    draws = np.random.default_rng(seed)
    config = SearchConfig(nodes=nodes, dataset="digits", epochs=epochs if ended else 2 * epochs, seed=seed)
    space = recurrent_space(RECURRENT_PRIMITIVES, nodes=nodes) if recurrent else config.search_space
    settings = config.to_json() | ({"bptt": 35, "dataset": "sotu"} if recurrent else {}) | changes
    write(folder / "config.json", {**settings, "data": DATA})
    shape = (nodes * (nodes + 1) // 2, 5) if recurrent else (nodes * (nodes + 3) // 2, 8)
    kinds = ["recurrent"] if recurrent else ["normal", "reduce"]
    ways = {kind: draws.normal(size=shape) for kind in kinds}
    records, before, words = [], None, {}
    for epoch in range(1, epochs + 1):
        share = epoch / epochs
        tables = {kind: np.float32(0.6 * share * way + 0.05 * draws.normal(size=shape)) for kind, way in ways.items()}
        alphas = tables["recurrent"] if recurrent else tables
        if isinstance(space, RecurrentSpace):
            genotype = derive_recurrent_genotype(alphas, space)
        else:
            genotype = derive_genotype(alphas, space)
        found = verdict_of_alphas(alphas, genotype, space, SOFTMAX, before=before)
        before, words = genotype, found.to_json()
        write(folder / genotype_file(epoch), json.loads(genotype.to_json()))
        if mixtures:
            write(folder / mixture_file(epoch), json.loads(mixture_record(alphas, space, SOFTMAX).to_json()))
        for step in range(1, steps + 1):
            records.append(_step((epoch - 1) * steps + step, 2.3 * math.exp(-2 * share) + 0.1 * draws.random(), kinds))
        last = records[-1]
        guards = {f"epoch/{name.replace('/', '_')}": value for name, value in found.numbers().items()}
        accuracy = {"epoch/evaluation_perplexity": 90.0} if recurrent else {"epoch/evaluation_accuracy": 0.9 * share}
        means = {"epoch/train_loss": last["train/loss"], "epoch/valid_loss": last["valid/loss"], **accuracy}
        numbers = {**means, "epoch/evaluation_loss": 2.5 - share, **guards, "epoch/number": float(epoch)}
        records.append({"step": epoch * steps, "time": last["time"] + 0.5, **numbers})
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
    record = {"format": 2, "epochs_ended": epochs, "seconds": 60.0 * epochs, "versions": VERSIONS}
    write(folder / f"checkpoints/step_{epochs * steps:08d}/record.json", record)
    write(folder / "memory.json", {"persistent": 3_200_000, "temporary": 64_000_000, "peak": 1_500_000_000})
    if ended and before is not None:
        genotype = json.loads(before.to_json())
        write(folder / "genotype.json", genotype)
        score = {"valid_perplexity": 90.0} if recurrent else {"valid_accuracy": 0.9 - 0.01 * seed}
        summary = {"genotype": genotype, **score, **({"verdict": words} if verdict else {})}
        write(folder / "summary.json", summary | {"epochs": epochs, "steps": epochs * steps, "seconds": 60.0 * epochs})
    return folder


def training(folder, *, epochs=3, seed=0, ended=True, **changes):
    """A training on images."""
    settings = {"genotype": "DARTS_V2", "dataset": "digits", "epochs": epochs, "seed": seed, **changes}
    write(folder / "config.json", {**settings, "data": DATA})
    records = []
    for epoch in range(1, epochs + 1):
        numbers = {"train_loss": 2.0 / epoch, "train_accuracy": 1 - 0.5 / epoch, "valid_accuracy": 0.9 - 0.5 / epoch}
        records.append({"step": epoch, "time": 1.7e9 + epoch, "train/loss": 2.0 / epoch, "learning_rate": 0.1 / epoch})
        records.append(
            {"step": epoch, "time": 1.7e9 + epoch, "epoch/number": float(epoch)}
            | {f"epoch/{name}": value for name, value in numbers.items()}
        )
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
    if ended:
        summary = {"weights": 3808, "tested": "best", "test_accuracy": 0.75 + 0.01 * seed, "seconds": 37.0}
        write(folder / "summary.json", {**summary, "epochs": epochs, "steps": epochs})
    return folder


def mistakes(folder, *, names=("cat", "dog", EVIL), images="test images"):
    """Adds what it gets wrong to a training: every image of the first class is taken for the last one."""
    last = len(names) - 1
    pixels = np.random.default_rng(0).integers(0, 256, (9, 9, 3)).astype(np.uint8)
    worst = [
        Mistake(place, f"{names[0]}/{place}{EVIL}.png", 0, last, 0.99 - 0.1 * place, 0.01, thumbnail(pixels, 64))
        for place in range(3)
    ]
    totals = [10] * len(names)
    record = MistakeRecord(images, names, totals, [7, *totals[1:]], [Confusion(0, last, 3)], worst)
    (folder / "mistakes.json").write_text(record.to_json())
    return folder


def staged(folder, *, stages=3):
    """A search in three stages of P-DARTS, which drops three and then two operations of each edge."""
    names = SearchConfig().search_space.normal[0]
    common = {"stages": "p_darts", "dropped_operations": [3, 2][: stages - 1]}
    for number in range(1, stages + 1):
        last = number == stages
        left = None if number == 1 else [[list(names[: 8 - (3, 5)[number - 2]])] * 5] * 2
        place = folder if last else folder / f"stage{number}"
        search(place, stage=number, edge_operations=left, cells=4 + number, **common)
    return folder


def pipeline(folder, *, ended=True, baseline="random"):
    """A pipeline of two searches and two cells of a baseline, two full trainings of each."""
    arms = ("search", baseline)
    settings = {"dataset": "digits", "seed": 0, "searches": 2, "search.epochs": 3, "train.epochs": 3}
    write(folder / "config.json", {**settings, "data": DATA})
    found = [search(folder / f"searches/seed{seed}", seed=seed) for seed in (0, 1)]
    genotypes = [json.loads((each / "genotype.json").read_text()) for each in found]
    for arm, seed in itertools.product(arms, (0, 1)):
        training(folder / f"selection/{arm}{seed}", seed=seed)
        training(folder / f"trainings/{arm}-seed{seed}", seed=seed, ended=ended or arm == "search")
    if ended:
        (folder / "table.txt").write_text(f"a table with {EVIL}\n")
        summary = {}
        for arm, mean in zip(arms, (0.97, 0.91)):
            candidates = [
                {"seed": seed, "supernet_accuracy": 0.9, "valid_accuracy": 0.8 + 0.01 * seed, "weights": 1000}
                | {"search_seconds": 10.0, "brief_seconds": 5.0, "genotype": genotypes[seed]}
                for seed in (0, 1)
            ]
            results = {"test_accuracies": [mean - 0.005, mean + 0.005], "chosen": 1, "candidates": candidates}
            summary[arm] = {"genotype": genotypes[1], "mean": mean, **results}
        write(folder / "summary.json", summary)
    return folder


def write(path, content):
    """Writes JSON, with missing folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1))


def _step(step, loss, kinds):
    numbers = {"train/loss": loss, "valid/loss": loss + 0.1, "train/accuracy": 0.5, "learning_rate": 0.025}
    entropies = {f"alphas/entropy_{kind}": 2.07 - 1e-4 * step for kind in kinds}
    norms = {"hypergradient/norm": 0.1, "hypergradient/direct_norm": 0.09, "hypergradient/implicit_norm": 0.03}
    return {"step": step, "time": 1.7e9 + step, **numbers, **entropies, **norms, "weights/gradient_norm": 2.0}
