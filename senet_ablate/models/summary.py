"""A network as a person wants to see it: what it costs, stage by stage, where SE sits, and what it
adds; and the costs of all of them."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Literal

import pandas as pd
import torch
from torch import Tensor, nn

from senet_ablate.models.build import build_to_count, list_backbones, native_pixels
from senet_ablate.models.complexity import Cost, cost
from senet_ablate.models.se import FCExcitation, se_blocks
from senet_ablate.records.cost import ALL_BUT_LAST, PAPERS_NETWORK, NetworkCost, StageCost, printed
from senet_ablate.spec import BadInput, SESpec


def classes_at(pixels: int) -> int:
    """ImageNet's 1,000 classes, or 100 for 64 pixels or fewer."""
    return 1000 if pixels > 64 else 100


def _counted(
    backbone: str, se: SESpec | None, pixels: int, classes: int, stem: str
) -> tuple[nn.Module, Cost]:
    """A network as `build_to_count` makes it, and its cost."""
    try:
        model = build_to_count(backbone, classes, se, stem)
        return model, cost(model, (3, pixels, pixels))
    except BadInput:
        raise
    except Exception as error:  # in a user's operator; too few pixels
        why = f"{type(error).__name__}: {error}"
        raise BadInput(f"{backbone}: {pixels} pixels do not go through it: {why}") from error


def count(backbone: str, se: SESpec | None) -> NetworkCost:
    """The cost of a network at the size that it was made for."""
    pixels = native_pixels(backbone)
    classes = classes_at(pixels)
    model, found = _counted(backbone, se, pixels, classes, "default")
    return NetworkCost(
        backbone=backbone,
        se=se,
        pixels=pixels,
        classes=classes,
        params=found.params,
        macs=found.macs,
        parts={
            name: StageCost(params=found.params_by_module[name], macs=found.macs_by_module[name])
            for name, _ in model.named_children()
        },
    )


def to_count() -> list[tuple[str, SESpec | None]]:
    """Each registered network without and with SE, then the versions whose cost the paper gives."""
    every = [(name, se) for name in list_backbones() for se in (None, SESpec())]
    paper = [(PAPERS_NETWORK, ALL_BUT_LAST), *((one.backbone, one.se) for one in printed())]
    return list(dict.fromkeys([*every, *paper]))


def stages(
    backbone: str, se: SESpec | None, pixels: int, classes: int, stem: str = "default"
) -> pd.DataFrame:
    """One row a part of the network and one for the whole; parts that neither cost nor change the
    size are left out.

    Columns: output (channels x height x width), units, SE blocks, hidden widths, params,
    multiply-adds, and what SE adds to them in percent of the plain network's part.
    """
    model, ours = _counted(backbone, se, pixels, classes, stem)
    plain = _counted(backbone, None, pixels, classes, stem)[1] if se else ours
    outputs: dict[nn.Module, str] = {}

    def note(module: nn.Module, inputs: object, output: Tensor) -> None:
        outputs[module] = " x ".join(map(str, output.shape[1:]))

    parts = {**dict(model.named_children()), "all": model}
    for module in parts.values():
        module.register_forward_hook(note)
    with torch.no_grad():
        model.eval()(torch.zeros(1, 3, pixels, pixels, device=next(model.parameters()).device))
    rows: dict[str, dict[str, object]] = {}
    for name, module in parts.items():
        stage = name.removeprefix("stage")
        here = [block for block in se_blocks(model) if block.startswith(f"SE_{stage}_")]
        fully_connected = [one for one in module.modules() if isinstance(one, FCExcitation)]
        widths = dict.fromkeys(str(one.reduce.out_channels) for one in fully_connected)
        rows[name] = {
            "output": outputs[module],
            "units": len(module) if stage != name and isinstance(module, nn.Sequential) else None,
            "SE": " ... ".join(dict.fromkeys((here[0], here[-1]))) if here else None,
            "hidden": ", ".join(widths) if here else None,
        }
    costs, bare = (_by_part(found, parts) for found in (ours, plain))
    added = (100 * (costs - bare) / bare).where(costs != bare).round(2).add_suffix(", +%")
    table = pd.DataFrame.from_dict(rows, orient="index").astype({"units": "Int64"})
    table = table.join([costs, added])
    table = table[(table["output"] != table["output"].shift()) | costs.any(axis=1)]
    return table if se else table.drop(columns=["SE", "hidden", *added.columns])


def _by_part(found: Cost, parts: Iterable[str]) -> pd.DataFrame:
    params = {**found.params_by_module, "all": found.params}
    macs = {**found.macs_by_module, "all": found.macs}
    return pd.DataFrame({"params": params, "multiply-adds": macs}).loc[list(parts)]


def describe(
    backbone: str,
    se: SESpec | None = None,
    size: int | None = None,
    classes: int | None = None,
    stem: str = "default",
    form: Literal["text", "csv", "latex"] = "text",
) -> str:
    """The table of `stages`, by default of the network at the size that it was made for.

    size: pixels of the square input. Raises BadInput.
    """
    size = size or native_pixels(backbone)
    classes = classes or classes_at(size)
    rows = stages(backbone, se, size, classes, stem)
    if form == "csv":
        return rows.to_csv(lineterminator="\n").rstrip()
    text = rows.astype(object)
    for column, values in rows.select_dtypes("number").items():
        words = "{:.2f}" if values.dtype == float else "{:,}"
        text[column] = values.map(words.format, na_action="ignore")
    text = text.where(rows.notna(), "")
    if form == "latex":
        escaped = text.style.format(escape="latex").format_index(escape="latex", axis=1)
        return escaped.format_index(escape="latex", axis=0).to_latex(hrules=True)
    title = f"{backbone}, {_named(se)}, {size}x{size} pixels, {classes} classes"
    return f"{title}\n\n{text.to_markdown(disable_numparse=True)}"


def _named(se: SESpec | None) -> str:
    """What makes an SE network, in the words of `--se`; defaults but for the reduction left out."""
    if se is None:
        return "plain"
    usual = asdict(SESpec())
    said = [
        f"{field} {value}"
        for field, value in asdict(se).items()
        if field == "reduction" or value != usual[field]
    ]
    return f"SE with {', '.join(said)}"
