"""Every network of the experiments on request trains a step under a recipe:

the sweep of the tests leaves them out.
"""

import pytest
import torch

from senet_ablate.data.images import ImageSet
from senet_ablate.models.build import native_pixels
from senet_ablate.spec.plan import list_experiments, read_experiment, read_plan
from senet_ablate.spec.registry import _NETWORKS
from senet_ablate.spec.spec import Run
from senet_ablate.train.loop import prepared, train_step

ON_REQUEST = [name for name in list_experiments() if read_experiment(name).on_request]
RUNS = [run for name in ON_REQUEST for run in read_plan("smoke", [name], seeds=1).runs()]
TINY = "resnet_tiny_bottleneck"
# every block of the tiny network, and of each file of networks one with SE
FILES = {name: file for file, names in _NETWORKS.items() for name in names}
NETWORKS = {FILES[run.train.backbone]: run for run in RUNS if run.se}
NETWORKS |= {str(run.se): run for run in RUNS if run.train.backbone == TINY}


def named(run: Run) -> str:
    squeezed = run.se.squeeze if run.se and run.se.squeeze != "avg" else ""
    return "-".join(filter(None, (run.train.backbone, "SE" if run.se else "", squeezed)))


@pytest.mark.parametrize("run", NETWORKS.values(), ids=named)
def test_every_network_trains_a_step(run: Run, digits: ImageSet) -> None:
    """Under the smoke recipe, but for the stem, which the ImageNet networks need to be one for
    small images.
    """
    spec = run.train.model_copy(update={"stem": "32px", "batch_size": 2})
    model, optimizer, _ = prepared(Run(spec, run.se, run.seed), digits, torch.device("cpu"))
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    pixels = 8 if native_pixels(spec.backbone) == 32 else 24  # 24: fewest for Inception-ResNet
    loss, _ = train_step(
        model, optimizer, torch.randn(2, 3, pixels, pixels), torch.tensor([0, 1]), spec
    )
    assert loss.isfinite()
    still = [
        name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])
    ]
    assert not still
