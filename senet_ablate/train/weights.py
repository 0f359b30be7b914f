"""The final weights of a run, kept without pickle:

one safetensors file that names the run it comes from.
"""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from senet_ablate.models.build import build_model
from senet_ablate.records.store import write_whole
from senet_ablate.spec.registry import BadInput
from senet_ablate.spec.spec import Run


def save_weights(path: Path, model: nn.Module, run: Run) -> None:
    """Write the state of a trained network as it is (float32); the file appears whole or not at
    all.
    """
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    write_whole(path, save(state, metadata={"run": run.id}))


def load_network(path: Path, run: Run, classes: int) -> nn.Module:
    """The network that `run` trained, on the CPU, in evaluation mode.

    Raises BadInput if the file does not hold it.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            origin = (file.metadata() or {}).get("run")
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise BadInput(f"{path}: cannot be read as safetensors ({error})") from error
    if origin != run.id:
        raise BadInput(f"{path}: holds the weights of run {origin}, not of run {run.id}")
    model = build_model(run.train.backbone, classes, run.se, stem=run.train.stem)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise BadInput(
            f"{path}: does not fit the network of run {run.id}: {' '.join(str(error).split())}"
        ) from error
    return model.to(memory_format=torch.channels_last).eval()
