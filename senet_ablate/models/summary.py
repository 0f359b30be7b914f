"""A network as a person wants to see it: stages, sizes, where SE sits, and what it adds."""

from typing import Literal

import pandas as pd
import torch
from torch import Tensor, nn

from senet_ablate.models.build import build_model
from senet_ablate.models.complexity import cost
from senet_ablate.models.se import FCExcitation, se_blocks
from senet_ablate.spec.registry import BACKBONES
from senet_ablate.spec.schema import field_names
from senet_ablate.spec.spec import SESpec


def describe(
    backbone: str,
    se: SESpec | None = None,
    size: int | None = None,
    classes: int | None = None,
    stem: str = "default",
    form: Literal["text", "csv", "latex"] = "text",
) -> str:
    """Parameters and multiply-adds of a network by stage, beside those of its plain twin. Raises
    BadInput.

    size: pixels of the square input; classes: outputs; by default what the network was made for.
    """
    if size is None:
        size = int(getattr(BACKBONES[backbone], "pixels", 224))
    if classes is None:
        classes = 1000 if size > 64 else 100
    rows = stages(backbone, se, size, classes, stem)
    if form == "csv":
        return rows.to_csv(lineterminator="\n").rstrip()
    text = rows.astype(object).where(rows.notna(), "")
    for column in ("params", "multiply-adds"):
        text[column] = [f"{value:,}" for value in rows[column]]
    for column in text.columns.intersection(["params, +%", "multiply-adds, +%"]):
        text[column] = ["" if pd.isna(value) else f"{value:.2f}" for value in rows[column]]
    if form == "latex":
        escaped = text.style.format(escape="latex").format_index(escape="latex", axis=1)
        return escaped.format_index(escape="latex", axis=0).to_latex(hrules=True)
    title = f"{backbone}, {_named(se)}, {size}x{size} pixels, {classes} classes"
    return f"{title}\n\n{text.to_markdown(disable_numparse=True)}"


def stages(
    backbone: str, se: SESpec | None, size: int, classes: int, stem: str = "default"
) -> pd.DataFrame:
    """One row a part of the network and one for the whole; parts that neither cost nor change the
    size are left out.

    Columns: output (channels x height x width), units, SE blocks, hidden widths, params,
    multiply-adds, and what SE adds to them in percent of the plain network's part.
    """
    with torch.device("meta"):
        model = build_model(backbone, classes, se, stem=stem)
        plain = build_model(backbone, classes, None, stem=stem)
    shape = (3, size, size)
    ours, bare, outputs = cost(model, shape), cost(plain, shape), _outputs(model, shape)
    blocks = {path: name for name, path in _paths(model).items()}
    rows, before = {}, ""
    for name, module in model.named_children():
        if (
            not ours.params_by_module[name]
            and not ours.macs_by_module[name]
            and outputs[name] == before
        ):
            continue
        before = outputs[name]
        here = [blocks[path] for path in blocks if path.startswith(f"{name}.")]
        rows[name] = {
            "output": outputs[name],
            "units": (
                len(module)
                if name.startswith("stage") and isinstance(module, nn.Sequential)
                else None
            ),
            "SE": f"{here[0]} ... {here[-1]}" if len(here) > 1 else "".join(here),
            "hidden": ", ".join(map(str, _hidden(model, here))),
            "params": ours.params_by_module[name],
            "multiply-adds": ours.macs_by_module[name],
            "params, +%": _added(ours.params_by_module[name], bare.params_by_module[name]),
            "multiply-adds, +%": _added(ours.macs_by_module[name], bare.macs_by_module[name]),
        }
    rows["all"] = {
        "output": outputs[""],
        "params": ours.params,
        "multiply-adds": ours.macs,
        "params, +%": _added(ours.params, bare.params),
        "multiply-adds, +%": _added(ours.macs, bare.macs),
    }
    table = pd.DataFrame.from_dict(rows, orient="index").astype({"units": "Int64"})
    return (
        table.drop(columns=["SE", "hidden", "params, +%", "multiply-adds, +%"])
        if se is None
        else table
    )


def _named(se: SESpec | None) -> str:
    """What makes an SE network, in the words of `--se`; what is at its default goes without
    saying.
    """
    if se is None:
        return "plain"
    given = {field: getattr(se, field) for field in field_names(SESpec)}
    said = {
        field: value
        for field, value in given.items()
        if field == "reduction" or value != getattr(SESpec(), field)
    }
    return f"SE with {', '.join(f'{field} {value}' for field, value in said.items())}"


def _added(value: int, base: int) -> float | None:
    return round(100 * (value - base) / base, 2) if value != base else None


def _paths(model: nn.Module) -> dict[str, str]:
    """Dotted path of each SE block by its panel name."""
    path = {id(module): name for name, module in model.named_modules()}
    return {name: path[id(block)] for name, block in se_blocks(model).items()}


def _hidden(model: nn.Module, names: list[str]) -> list[int]:
    """The hidden widths of the named blocks, each once."""
    layers = [getattr(se_blocks(model)[name], "excitation", None) for name in names]
    return list(
        dict.fromkeys(one.reduce.out_channels for one in layers if isinstance(one, FCExcitation))
    )


def _outputs(model: nn.Module, shape: tuple[int, int, int]) -> dict[str, str]:
    """Output shape of every top-level part, and of the whole under an empty name."""
    shapes = {}

    def hook(name: str) -> None:
        def watch(module: nn.Module, inputs: object, output: Tensor) -> None:
            shapes[name] = " x ".join(map(str, output.shape[1:]))

        hooks.append(
            (dict(model.named_children())[name] if name else model).register_forward_hook(watch)
        )

    hooks: list[torch.utils.hooks.RemovableHandle] = []
    for name in ["", *dict(model.named_children())]:
        hook(name)
    with torch.no_grad():
        model.eval()(torch.empty(1, *shape, device="meta"))
    for one in hooks:
        one.remove()
    return shapes
