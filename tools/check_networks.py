"""Run every check of tests/networks.py over every network, plain and with SE in every place; write
docs/networks.md.

    nice -n 19 python tools/check_networks.py [NAME ...]

Takes hours, most of it torch.compile, which comes last; networks of few layers come first. One line
a check as it ends, kept in docs/networks.jsonl: the same command goes on where it was, first with
what was never run, then with what was run on other sources. The page, which is written when it ends
or is interrupted, says which are of those, and what is missing.
"""

import argparse
import ast
import atexit
import datetime
import gc
import hashlib
import json
import os
import shutil
import signal
import sys
import tempfile
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # one process, and the compiler's
# the usual one may hold code compiled for other instructions, which ends the process
os.environ["TORCHINDUCTOR_CACHE_DIR"] = tempfile.mkdtemp()
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import torch
from networks import CHECKS, CLASSES, DRAWS, LARGE, LEAF, PIXELS, PLAIN, STEM, forms, network
from skeletons import skeleton

from senet_ablate.models.build import list_backbones
from senet_ablate.train.provenance import processor

ROOT = Path(__file__).resolve().parent.parent
PAGE, KEPT = (ROOT / "docs" / f"networks.{suffix}" for suffix in ("md", "jsonl"))
COMPILED = ("torch.compile", "compiled step")
Check = tuple[str, str, str]  # network, its form, label of the check
Found = dict[str, Any]

built = lru_cache(maxsize=1)(network)  # a check leaves a network as it was


def main() -> int:
    """Run what is missing, then write the page; 1 if a check failed."""
    words = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    words.add_argument("names", nargs="*", metavar="NAME", help="networks; by default all")
    given = words.parse_args()
    if unknown := sorted({*given.names} - {*list_backbones()}):
        words.error(f"no network {unknown[0]!r}; known: {', '.join(list_backbones())}")
    torch.set_num_threads(1)
    atexit.register(shutil.rmtree, os.environ["TORCHINDUCTOR_CACHE_DIR"])
    warnings.simplefilter("error")  # as in the tests
    names = sorted(list_backbones(), key=layers)
    every, kept, these = checks(names), read(KEPT), sources()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for check in sorted(every, key=lambda check: check in kept):  # what was never run first
            done = check in kept and kept[check]["sources"] == these
            if check[0] in (given.names or names) and not done:
                kept[check] = found = {"sources": these, "check": check, **outcome(*check)}
                print(*check, f"{found['seconds']:.1f} s", found["error"] or "ok", flush=True)
                with KEPT.open("a") as file:
                    file.write(json.dumps(found) + "\n")
    except KeyboardInterrupt:
        print("interrupted; the same command goes on")
    kept = {check: kept[check] for check in every if check in kept}
    KEPT.write_text("".join(json.dumps(found) + "\n" for found in kept.values()))
    PAGE.write_text(page(every, kept))
    print(f"{PAGE} is written")
    return int(any(found["error"] for found in kept.values()))


def layers(name: str) -> int:
    """How many modules a network has, which is what the time of its checks goes by."""
    return sum(1 for _ in skeleton(name, CLASSES, stem=STEM).modules())


def checks(names: list[str]) -> list[Check]:
    """Those that apply to the networks, those that compile last."""
    every = [(name, form, label) for name in names for form in forms(name) for label, _ in CHECKS]
    compiled = [
        (*one, label)
        for *one, label in every
        if label in COMPILED and one[1] in (PLAIN, "standard")
    ]
    return [
        one for one in every if one[2] not in COMPILED and one[1:] != (PLAIN, "user's block")
    ] + compiled


def outcome(name: str, form: str, label: str) -> dict[str, str | float]:
    """What a check said, empty if it holds, the seconds of a processor that it took, and the
    date.
    """
    began, error = 0.0, ""
    try:
        made = built(name, form)
        began = sum(os.times()[:4])  # of this process and of the compilers that it started
        dict(CHECKS)[label](made)
    except Exception as raised:  # whatever PyTorch raises is what is looked for
        error = f"FAILED: {type(raised).__name__}: {' '.join(str(raised).split())}"[:300]
    seconds = round(sum(os.times()[:4]) - began, 2)
    gc.collect()  # graphs are circles, and hold weights
    return {"error": error, "seconds": seconds, "date": str(datetime.date.today())}


def sources() -> str:
    """12 hexadecimal digits that stand for the networks, the checks and the version of torch."""
    hashed = hashlib.sha256(torch.__version__.encode())
    folder = ROOT / "senet_ablate" / "models"
    networks = [path for path in sorted(folder.glob("*.py")) if path.stem not in OTHER_FILES]
    for path in (*networks, ROOT / "tests" / "networks.py"):
        hashed.update(code(path).encode())
    return hashed.hexdigest()[:12]


OTHER_FILES = ("__init__", "build", "complexity", "pretrained", "summary")
OTHER_NAMES = ("initialise", "se_blocks")  # what starts and what finds, not what computes


def code(path: Path) -> str:
    """What a file computes: without imports, comments, docstrings, layout and OTHER_NAMES."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node
        ):
            node.body = node.body[1:] or [ast.Pass()]
    names = [node for node in tree.body if getattr(node, "name", "") not in OTHER_NAMES]
    tree.body = [node for node in names if not isinstance(node, ast.Import | ast.ImportFrom)]
    return ast.unparse(tree)


def read(path: Path) -> dict[Check, Found]:
    """What each check gave last, on these sources if it was run on them."""
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    these = sources()
    lines.sort(key=lambda line: line["sources"] == these)  # the last one counts
    return {tuple(line["check"]): line for line in lines}


def page(every: list[Check], kept: dict[Check, Found]) -> str:
    """docs/networks.md."""
    these = sources()
    now = [check for check in kept if kept[check]["sources"] == these]
    failed = [check for check in kept if kept[check]["error"]]
    older = sorted({(found["sources"], found["date"]) for found in kept.values()}, key=str)
    older = [f"`{of}` ({date})" for of, date in older if of != these]
    hours = sum(float(found["seconds"]) for found in kept.values()) / 3600
    labels = [label for label, _ in CHECKS]

    def cell(check: Check) -> str:
        if check not in kept:
            return ""
        text = "**failed**" if check in failed else f"ok {kept[check]['seconds']:.1f}"
        return text if check in now else f"({text})"

    table = [f"| network | SE | {' | '.join(labels)} |", f"| :-- | :-- |{' --: |' * len(labels)}"]
    for one in dict.fromkeys((name, form) for name, form, _ in kept):
        cells = " | ".join(cell((*one, label)) for label in labels)
        table.append(f"| {' | '.join(one)} | {cells} |")
    first = [" ".join(str(check.__doc__).split("\n\n")[0].split()) for _, check in CHECKS]
    parts = [
        INTRODUCTION,
        "## What was checked",
        "\n".join(f"- **{label}**: {said}" for label, said in zip(labels, first, strict=True)),
        "## What was left out",
        LEFT_OUT,
        "## What was found",
        (
            f"Written {datetime.date.today()}, with torch {torch.__version__} on one core of this"
            f" processor: {processor().removeprefix('cpu: ')}"
            f" ({torch.backends.cpu.get_cpu_capability()}). Networks, checks and the version of"
            f" torch hash to `{these}`. Of {len(every):,} checks {len(now):,} were run on these"
            f" sources, {len(kept) - len(now):,} on earlier ones alone (in brackets:"
            f" {', '.join(older) or 'none'}), {len(every) - len(kept):,} not yet (empty cells, and"
            f" networks that are not in the table). {len(kept) - len(failed):,} hold,"
            f" {len(failed)} fail. They took {hours:.2f} hours of processor time."
        ),
        "\n".join(f"- {', '.join(check)}: {kept[check]['error']}" for check in failed),
        "In the table: seconds of processor time, on a machine that had other work.",
        "\n".join(table),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


INTRODUCTION = f"""# Networks as PyTorch modules

What PyTorch's own tools do with every network of this package, plain and with SE in every place that it can host:
r = 8 with biases, {CLASSES} classes, images of {PIXELS} pixels under the stem for them, random weights and statistics.
`tests/networks.py` holds the checks, `tests/test_pytorch_tools.py` takes the fast ones, and
`python tools/check_networks.py` takes all and writes this page."""

LEFT_OUT = f"""- Values in training of networks that draw random numbers (dropout, shares of branches):
  {", ".join(DRAWS)}. There hooks are counted, and the compiled step is one in
  evaluation mode.
- Compiled networks with SE elsewhere than in the standard place: time.
- Under `torch.func`, in double backward and in compiled steps, the gradients of parameters of more than {LEAF:,}
  elements: memory. Gradients pass through their layers all the same.
- Maps of more than {LARGE:,} elements where a network has none at {PIXELS} pixels: memory.
- Other squeezes, excitations and gates: `tests/test_block_formula.py` has the block by itself.
- GPUs, other processors, other stems."""

if __name__ == "__main__":
    sys.exit(main())
