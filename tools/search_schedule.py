"""Settle the peak learning rate of a recipe on held-out training images, for plain and standard SE alike.

    python tools/search_schedule.py RECIPE --epochs N --lr RATE [RATE ...] --seeds S [S ...] [--data DIR]

Trains both networks on 9 of 10 training images and judges them on the tenth; no test image is read. Seeds must be ones
that the recipe never reports. Records go to results/RECIPE/search/runs; a run that has one is skipped.
"""

import argparse
from pathlib import Path

from senet_ablate.fulfil import Place
from senet_ablate.launch import launch_local
from senet_ablate.plan import read_recipe
from senet_ablate.spec import Run, SESpec, Training
from senet_ablate.strict import parse

HELD_OUT = 0.1  # share of the training images


def main() -> None:
    """Train what is missing."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("recipe")
    words.add_argument("--epochs", type=int, required=True)
    words.add_argument("--lr", type=float, nargs="+", required=True)
    words.add_argument("--seeds", type=int, nargs="+", required=True)
    words.add_argument("--data", type=Path, default=Path("data"))
    words.add_argument("--results", type=Path, default=Path(__file__).resolve().parent.parent / "results")
    given = words.parse_args()
    base = read_recipe(given.recipe).train.model_dump(exclude_defaults=True)
    base |= {"validation": HELD_OUT, "evaluate": "validation", "epochs": given.epochs}
    runs = [
        Run(parse(Training, base | {"lr": lr}), se, seed)
        for lr in given.lr
        for seed in given.seeds
        for se in (None, SESpec())
    ]
    place = Place(given.results / given.recipe, "search", given.data, "cpu", "python tools/search_schedule.py")
    done = place.results / "search" / "runs"
    missing = [run for run in runs if not (done / f"{run.id}.json").is_file()]
    for failure in launch_local(missing, place, lambda finished, images: None):
        print(f"failed: lr {failure.run.train.lr:g}, seed {failure.run.seed}: {failure.cause}")


if __name__ == "__main__":
    main()
