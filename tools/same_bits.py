"""Whether another checkout computes the same bits: one short run of cifar100-cpu a network.

    python tools/same_bits.py run --data DIR            # print what this checkout computes, as JSON
    python tools/same_bits.py compare OTHER_PYTHON OTHER_CHECKOUT --data DIR

`compare` runs this very script in the other checkout, with that checkout's interpreter, and exits 1
where a run differs. The frozen checkout of the sweep has flat modules; both layouts are known.
"""

import argparse
import hashlib
import json
import subprocess
import sys
from pathlib import Path

NETWORKS = {"plain": None, "SE": {}, "NoSqueeze": {"squeeze": "none"}, "tanh": {"gate": "tanh"}}
SHORT = {"epochs": 2, "train_images": 4000, "test_images": 2000, "test_every": 1}


def computed(data: Path) -> dict[str, dict[str, str]]:
    """Run id and a hash of losses, errors and right images of each network."""
    try:
        from senet_ablate.spec.plan import read_recipe
        from senet_ablate.spec.spec import Run, SESpec
        from senet_ablate.train.numerics import set_numerics
    except ImportError:
        from senet_ablate.numerics import set_numerics  # type: ignore[import-not-found,no-redef]
        from senet_ablate.plan import read_recipe  # type: ignore[import-not-found,no-redef]

        from senet_ablate.spec import Run, SESpec  # type: ignore[no-redef,attr-defined]
    spec = read_recipe("cifar100-cpu").train.model_copy(update=SHORT)
    set_numerics(spec)  # before torch is loaded
    import torch

    from senet_ablate.data import load_images

    try:
        from senet_ablate.train.loop import train
    except ImportError:
        from senet_ablate.train import train  # type: ignore[no-redef,attr-defined]
    torch.set_num_threads(1)
    images = load_images(spec, data)
    found = {}
    for name, se in NETWORKS.items():
        run = Run(spec, None if se is None else SESpec(**se), 2)  # type: ignore[arg-type]
        record = train(run, images, torch.device("cpu"))
        facts = [record.correct, record.wrong_top5, record.params, record.macs]
        facts += [[epoch.train_loss, epoch.test_loss] for epoch in record.epochs]
        digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
        found[name] = {"id": run.id, "bits": digest}
    return found


def main() -> None:
    """Compute, or compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("run", "compare"))
    parser.add_argument("python", nargs="?")
    parser.add_argument("checkout", nargs="?", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()
    if options.what == "run":
        sys.path.insert(0, str(Path.cwd()))
        print(json.dumps(computed(options.data)))
        return
    script, data = str(Path(__file__).resolve()), str(options.data.resolve())
    sides = [
        json.loads(
            subprocess.run(
                [python, script, "run", "--data", data],
                cwd=where,
                stdout=subprocess.PIPE,
                check=True,
            ).stdout.splitlines()[-1]
        )
        for python, where in ((sys.executable, Path.cwd()), (options.python, options.checkout))
    ]
    for name in NETWORKS:
        ours, theirs = sides[0][name], sides[1][name]
        print(f"{name:<12}{ours['id']}  {'equal' if ours == theirs else f'DIFFERENT: {theirs}'}")
    sys.exit(sides[0] != sides[1])


if __name__ == "__main__":
    main()
