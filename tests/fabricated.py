"""Records that were never trained:

every run of a recipe, with errors drawn around a planted value for each variant.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from senet_ablate.records.store import Epoch, Gates, Provenance, Record, pack, write_record
from senet_ablate.spec.plan import read_plan
from senet_ablate.spec.spec import Run, digest

TESTED = 400
CLASSES = 4
DATA = "0" * 64


def resealed(path: Path, content: dict[str, Any]) -> Path:
    """Writes facts, edited or not, with the checksum that belongs to them."""
    content = {key: value for key, value in content.items() if key != "checksum"}
    path.write_text(json.dumps({"checksum": digest(content), **content}))
    return path


def write_recipe(
    results: Path, recipe: str = "cue", seeds: int = 3, skip: tuple[str, ...] = ()
) -> Path:
    """Write a record for every run of `recipe` but those of the rows in `skip`; returns
    `results`.
    """
    plan = read_plan(recipe, seeds=seeds)
    skipped = {
        run.id
        for row in plan.rows()
        if f"{row.experiment}/{row.variant}" in skip
        for run in row.runs
    }
    for run in plan.runs():
        if run.id not in skipped:
            write_record(results, recipe, record(run))
    return results


def record(run: Run) -> Record:
    """A record of `run`; plain networks err on 40% of the images and others on 20% to 35%, by their
    specification.

    A constant gate gives what the plain network gives for the same seed, bit for bit.
    """
    plain = run.se is None or run.se.gate == "constant"
    rng = np.random.default_rng(int(Run(run.train, None if plain else run.se, run.seed).id, 16))
    kind = np.random.default_rng([ord(letter) for letter in repr(run.fields["se"])])
    error = (0.40 if plain else kind.uniform(0.20, 0.35)) + rng.normal(0, 0.01)
    right = rng.random(TESTED) >= error
    wrong = int((~right).sum())
    epochs = tuple(
        Epoch(
            lr=0.1,
            train_loss=1 / epoch,
            train_top1=60 / epoch,
            test_loss=1.2 / epoch,
            test_top1=65 / epoch,
        )
        for epoch in (1, 2, 3)
    )
    blocks = () if plain else ("SE_2_1", "SE_3_1", "SE_4_1")
    return Record(
        id=run.id,
        run=run,
        classes=CLASSES,
        train_images=1000,
        tested=TESTED,
        wrong_top1=wrong,
        wrong_top5=None,
        correct=pack(right),
        majority=TESTED // CLASSES,
        answered=CLASSES,
        params=38_900 if plain else 38_900 + int(kind.integers(400, 30_000)),
        macs=553_000 if plain else 553_000 + int(kind.integers(400, 30_000)),
        epochs=epochs,
        gates={
            name: Gates(mean=0.5 + 0.1 * depth, std=0.2, within=0.1, low=0.02, high=0.05 * depth)
            for depth, name in enumerate(blocks)
        },
        provenance=Provenance(
            command="made up",
            commit="0" * 40,
            dirty=False,
            versions={"torch": "0"},
            device="none",
            threads=1,
            started="2026-01-01T00:00:00+00:00",
            wall_s=1.5,
            train_s=1.0,
            data=DATA,
            operators={},
        ),
    )
