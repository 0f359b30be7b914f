"""Run every check of tests/networks.py over every network, plain and with SE in every place; write docs/networks.md.

    nice -n 19 python tools/check_networks.py [NAME ...] [--kept FILE]

Takes hours, most of it torch.compile. One line a check as it ends, kept in FILE; the same command goes on where it was,
and checks again what other sources gave. The page is written when FILE holds all networks.
"""

import argparse
import datetime
import gc
import hashlib
import json
import os
import sys
import tempfile
import warnings
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # no other processes than the compiler's
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import torch
from networks import CHECKS, CLASSES, DRAWS, LARGE, LEAF, PIXELS, PLAIN, Network, forms, network

from senet_ablate.models.build import list_backbones
from senet_ablate.train.provenance import processor

PAGE = ROOT / "docs" / "networks.md"
COMPILED = ("torch.compile", "compiled step")
Kept = dict[tuple[str, str, str], dict[str, str | float]]


def main() -> int:
    """Run what is missing, then write the page; 1 if a check failed."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("names", nargs="*", metavar="NAME", help="networks; by default all")
    words.add_argument("--kept", type=Path, default=Path(tempfile.gettempdir()) / "check_networks.jsonl")
    given = words.parse_args()
    if unknown := sorted({*given.names} - {*list_backbones()}):
        words.error(f"no network {unknown[0]!r}; known: {', '.join(list_backbones())}")
    torch.set_num_threads(1)
    warnings.simplefilter("error")  # as in the tests
    kept = read(given.kept)
    for name, form in ((name, form) for name in given.names or list_backbones() for form in forms(name)):
        missing = [label for label in labels(name, form) if (name, form, label) not in kept]
        made = network(name, form) if missing else None
        for label in missing:
            kept[name, form, label] = found = outcome(label, made)
            said = f"FAILED: {found['error']}" if found["error"] else "ok"
            print(f"{name} {form} {label} {found['seconds']:.1f} s {said}", flush=True)
            keep(given.kept, name, form, label, found)
        del made
        gc.collect()
    every = [(name, form, label) for name in list_backbones() for form in forms(name) for label in labels(name, form)]
    if all(one in kept for one in every):
        PAGE.write_text(page(kept))
        print(f"{PAGE.relative_to(ROOT)} is written")
    else:
        print(f"{sum(one not in kept for one in every)} of {len(every)} checks are missing: no page yet")
    return int(any(kept[one]["error"] for one in every if one in kept))


def labels(name: str, form: str) -> list[str]:
    """The checks that apply to a network in one form."""
    left_out = set() if form in (PLAIN, "standard") else {*COMPILED}
    return [label for label, _ in CHECKS if label not in left_out | ({"user's block"} if form == PLAIN else set())]


def outcome(label: str, made: Network) -> dict[str, str | float]:
    """What a check said, empty if it holds, and the seconds of a processor that it took."""
    began, error = sum(os.times()[:4]), ""
    try:
        dict(CHECKS)[label](made)
    except Exception as raised:  # whatever PyTorch raises is what is looked for
        error = f"{type(raised).__name__}: {' '.join(str(raised).split())}"[:300]
    return {"error": error, "seconds": round(sum(os.times()[:4]) - began, 2), "date": f"{datetime.date.today()}"}


def sources() -> str:
    """12 hexadecimal digits that stand for the networks, the checks and the version of torch."""
    hashed = hashlib.sha256(torch.__version__.encode())
    for path in (*sorted((ROOT / "senet_ablate" / "models").glob("*.py")), ROOT / "tests" / "networks.py"):
        hashed.update(path.read_bytes())
    return hashed.hexdigest()[:12]


def read(path: Path) -> Kept:
    """What these sources gave before."""
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return {tuple(line["check"]): line["found"] for line in lines if line["sources"] == sources()}


def keep(path: Path, *check: object) -> None:
    """Add what a check gave."""
    with path.open("a") as file:
        file.write(json.dumps({"sources": sources(), "check": check[:3], "found": check[3]}) + "\n")


def page(kept: Kept) -> str:
    """docs/networks.md."""
    failed = {one: found["error"] for one, found in kept.items() if found["error"]}
    dates = sorted({str(found["date"]) for found in kept.values()})
    hours = sum(float(found["seconds"]) for found in kept.values()) / 3600
    rows = [(name, form) for name in list_backbones() for form in forms(name)]
    lines = [
        INTRODUCTION.format(**globals()),
        "## What was checked",
        "\n".join(f"- **{label}**: {(check.__doc__ or '').split(chr(10))[0]}" for label, check in CHECKS),
        "## What was left out",
        LEFT_OUT.format(draws=", ".join(DRAWS), **globals()),
        "## What was found",
        f"Measured {' to '.join(dict.fromkeys((dates[0], dates[-1])))} with torch {torch.__version__} on one core of "
        f"{processor().removeprefix('cpu: ')} ({torch.backends.cpu.get_cpu_capability()}), by `tools/check_networks.py`"
        f"; networks and checks hash to {sources()}. {len(kept)} checks of {len(rows)} networks took {hours:.1f} hours "
        f"of a processor: {len(kept) - len(failed)} hold, {len(failed)} fail.",
        "\n".join(f"- {name}, {form}, {label}: {error}" for (name, form, label), error in failed.items()),
        "Numbers are seconds of a processor of a check that holds.",
        "\n".join(
            [
                f"| network | SE | {' | '.join(label for label, _ in CHECKS)} |",
                f"| :-- | :-- |{' --: |' * len(CHECKS)}",
                *(f"| {name} | {form} | {' | '.join(cell(kept, name, form))} |" for name, form in rows),
            ]
        ),
    ]
    return "\n\n".join(line for line in lines if line) + "\n"


def cell(kept: Kept, name: str, form: str) -> list[str]:
    """A network's row of the table."""
    found = [kept.get((name, form, label)) for label, _ in CHECKS]
    return ["" if one is None else "**failed**" if one["error"] else f"{one['seconds']:.1f}" for one in found]


INTRODUCTION = """# Networks as PyTorch modules

What PyTorch's own tools do with every network of this package, plain and with SE in every place that it can host: r = 8
with biases, {CLASSES} classes, images of {PIXELS} pixels under the stem for them, random weights and statistics. The tests
(`tests/test_pytorch_tools.py`) take the fast ones of these checks; all of them are in `tests/networks.py`."""

LEFT_OUT = """- Values in training of networks that draw random numbers (dropout, shares of branches): {draws}. Hooks
  are counted there, and the compiled step is one in evaluation mode.
- Compiled networks with SE elsewhere than in the standard place: time.
- Gradients of parameters of more than {LEAF:,} elements under `torch.func`, in double backward and in compiled steps:
  memory. The gradient passes through their layers all the same.
- Maps of more than {LARGE:,} elements, except in networks whose widest map has more at {PIXELS} pixels: memory.
- An SE block with another squeeze, excitation or gate: `tests/test_block_formula.py` has the block by itself.
- Processors other than this one, GPUs, and other stems than that for {PIXELS} pixels."""

if __name__ == "__main__":
    sys.exit(main())
