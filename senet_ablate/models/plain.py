"""The unit without a shortcut: VGG's layers, Inception's modules, MobileNet's convolutions."""

from torch import Tensor, nn

from senet_ablate.models.se import Slots


class PlainUnit(nn.Module):
    """standard(body(x)):

    the SE block takes the whole unit for its transformation (paper, Section 3.3 and Fig. 2).
    """

    def __init__(self, body: nn.Module, outputs: int, slots: Slots, stage: int) -> None:
        super().__init__()
        self.body = body
        self.se_standard = slots("standard", stage, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.se_standard(self.body(x))
