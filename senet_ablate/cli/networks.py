"""The commands about networks that train nothing: their costs, and the error of public weights."""

from pathlib import Path
from typing import Annotated

import typer

from senet_ablate.cli.evidence import report_page
from senet_ablate.cli.options import (
    RESULTS,
    Data,
    Device,
    MoreSEFields,
    Results,
    SEFields,
    data_root,
    read_se,
)


def cost(results: Results = RESULTS) -> None:
    """Count every network, plain and with SE, and compare it with the paper:

    the page in RESULTS/cost.
    """
    from tqdm import tqdm

    from senet_ablate.models.summary import count, to_count
    from senet_ablate.records.cost import write_costs

    write_costs(results, [count(*one) for one in tqdm(to_count(), unit=" networks")])
    report_page("cost", results)


def import_weights(
    file: Annotated[Path, typer.Argument(help="a public checkpoint of torchvision's or timm's")],
    backbone: Annotated[str, typer.Argument(help="the network that it is of")],
    pairs: MoreSEFields = None,
    se: SEFields = None,
    data: Data = None,
    size: Annotated[
        int | None, typer.Option("--size", min=8, help="pixels; default: the network's own")
    ] = None,
    device: Device = "auto",
) -> None:
    """Evaluate a public checkpoint on DATA/val/<class>/; sorted folders are the network's classes.

    Public SE networks have --se bias=true.
    """
    import torch
    from tqdm import tqdm

    from senet_ablate.models.pretrained import import_weights as network
    from senet_ablate.train.evaluate_folder import evaluate_folder
    from senet_ablate.train.launch.local import devices

    spec = read_se([*(se or []), *(pairs or [])])
    model = network(file, backbone, spec)
    with tqdm(unit=" images") as bar:

        def progress(images: int) -> None:
            bar.update(images)

        found = evaluate_folder(
            model, backbone, data_root(data), size, torch.device(devices(device)[0]), progress
        )
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(
        f"{backbone}, {'plain' if spec is None else spec}, {parameters:,} parameters, from {file}"
    )
    top5 = "" if found.top5 is None else f", top-5 error {found.top5:.2f}%"
    print(f"{found.images:,} images: top-1 error {found.top1:.2f}%{top5}")
