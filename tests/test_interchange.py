"""Public checkpoint files, made here by torchvision's own networks, read into ours."""

import math
import re
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from checkpoints import difference, randomised
from torch import nn

from senet_ablate.models.build import build_model
from senet_ablate.models.pretrained import import_weights
from senet_ablate.spec.registry import BadInput
from senet_ablate.spec.spec import SESpec

CLASSES = 7


@pytest.fixture(scope="module")
def resnet50(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    """torchvision's network and its file."""
    torch.manual_seed(0)
    theirs = randomised(torchvision.models.resnet50(num_classes=CLASSES))
    path = tmp_path_factory.mktemp("weights") / "resnet50.pth"
    torch.save(theirs.state_dict(), path)
    return theirs, path


@pytest.mark.parametrize(
    "name", ["resnet101", "resnext50_32x4d", pytest.param("vgg16_bn", marks=pytest.mark.slow)]
)
def test_torchvisions_file_gives_torchvisions_logits(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = randomised(torchvision.models.get_model(name, num_classes=CLASSES))
    torch.save(theirs.state_dict(), tmp_path / "file.pth")
    assert difference(import_weights(tmp_path / "file.pth", name), theirs, 64) < 1e-4


def test_torchvisions_resnet_has_its_stride_in_the_3x3_and_so_has_what_is_returned(
    resnet50: tuple[nn.Module, Path],
) -> None:
    theirs, path = resnet50
    ours = import_weights(path, "resnet50")
    assert difference(ours, theirs, 64) < 1e-4
    stride_in_1x1 = build_model("resnet50", CLASSES).eval()
    stride_in_1x1.load_state_dict(
        ours.state_dict()
    )  # the same weights in the paper's network: another function
    assert difference(stride_in_1x1, theirs, 64) > 0.1


def test_wrapped_half_precision_and_old_files_are_read_too(
    resnet50: tuple[nn.Module, Path], tmp_path: Path
) -> None:
    _, path = resnet50
    state = torch.load(path, weights_only=True)
    old = {
        key: value.half() for key, value in state.items() if not key.endswith("num_batches_tracked")
    }
    torch.save({"state_dict": old}, tmp_path / "old.pth")
    read = import_weights(tmp_path / "old.pth", "resnet50").state_dict()
    full = import_weights(path, "resnet50").state_dict()
    assert all(value.dtype == full[key].dtype for key, value in read.items())
    torch.testing.assert_close(read, full, rtol=1e-3, atol=1e-3)


def test_every_value_of_the_file_must_find_its_place(
    resnet50: tuple[nn.Module, Path], tmp_path: Path
) -> None:
    _, path = resnet50
    state = torch.load(path, weights_only=True)

    def refused(
        change: dict[str, torch.Tensor | None], message: str, se: SESpec | None = None
    ) -> None:
        changed = {key: value for key, value in (state | change).items() if value is not None}
        torch.save(changed, tmp_path / "changed.pth")
        with pytest.raises(
            BadInput, match=re.escape(str(tmp_path / "changed.pth")) + ".*" + message
        ):
            import_weights(tmp_path / "changed.pth", "resnet50", se)

    refused({"layer1.0.bn1.bias": None}, "missing 'layer1.0.bn1.bias'; unexpected nothing")
    refused(
        {"layer1.9.bn1.bias": torch.zeros(64)}, "missing nothing; unexpected 'layer1.9.bn1.bias'"
    )
    refused({"layer1.0.bn1.bias": torch.zeros(65)}, "'layer1.0.bn1.bias' has shape 65, not 64")
    refused({"fc.bias": None}, "missing 'fc.bias'; unexpected nothing")
    for value in (math.nan, math.inf, -math.inf):
        spoilt = state["layer1.0.conv2.weight"].clone()
        spoilt[3, 2, 1, 0] = value
        refused(
            {"layer1.0.conv2.weight": spoilt},
            "'layer1.0.conv2.weight' has values that are not finite",
        )
    refused(
        {"layer2.0.bn1.running_var": torch.full((128,), math.nan)},
        "'layer2.0.bn1.running_var' has values that are",
    )
    refused({"conv1.weight": None}, "as torchvision.resnet50: missing 'conv1.weight'")
    refused({}, r"missing 'layer1.0.se.fc1.weight'.* and 61 more.*with SE or without\?", SESpec())


def test_torchvisions_files_need_no_timm_and_timms_say_that_they_do(
    resnet50: tuple[nn.Module, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)  # as where it is not installed
    assert isinstance(import_weights(resnet50[1], "resnet50"), nn.Module)
    with pytest.raises(BadInput, match="pip install timm to read files of its networks"):
        import_weights(resnet50[1], "resnet50", SESpec(bias=True))


def test_a_file_that_is_none_says_so(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file"):
        import_weights(tmp_path / "absent.pth", "resnet50")
    for name in ("text.pth", "text.safetensors"):
        (tmp_path / name).write_text("not weights")
        with pytest.raises(BadInput, match=f"{name}: not a state dict that can be read safely"):
            import_weights(tmp_path / name, "resnet50")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(BadInput, match=r"list\.pth: not a state dict"):
        import_weights(tmp_path / "list.pth", "resnet50")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.pth", b"", "it is empty"),
        ("a.safetensors", b"", "it is empty"),
        ("a.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
        ("a.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("a.bin", b"\n<!DOCTYPE html><html>", "a web page"),
        ("a.pt", b"\x1f\x8b\x08" + bytes(50), "gzip"),
        ("a.pth", (80).to_bytes(8, "little") + b'{"a": {}}', "must end in .safetensors"),
        ("a.safetensors", b"PK\x03\x04" + bytes(60), "of torch.save"),
        ("a.pth", b"PK\x03\x04" + bytes(60), "damaged"),
        ("a.pth", b"\x80\x02}q\x00", "damaged"),
    ],
)
def test_what_people_call_a_checkpoint_is_named(
    name: str, content: bytes, says: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=re.escape(says)) as caught:
        import_weights(tmp_path / name, "resnet50")
    said = str(caught.value)
    assert len(said) < 300 + len(str(tmp_path)) and "weights_only" not in said and "\n" not in said


def test_the_keys_of_what_is_no_state_dict_are_named(tmp_path: Path) -> None:
    torch.save({"model": {"a": torch.ones(1)}, "epoch": 3}, tmp_path / "a.pth")
    with pytest.raises(BadInput, match="names with a tensor each: it holds 'model', 'epoch'"):
        import_weights(tmp_path / "a.pth", "resnet50")


@pytest.mark.parametrize("value", ["nan", "inf", "whole numbers"])
def test_weights_that_are_no_finite_numbers_are_named(
    value: str, resnet50: tuple[nn.Module, Path], tmp_path: Path
) -> None:
    state = dict(resnet50[0].state_dict())
    name = "layer1.0.bn1.running_var" if value == "inf" else "layer1.0.conv1.weight"
    if value == "whole numbers":
        state[name] = state[name].long()
    else:
        state[name] = state[name].clone()
        state[name].view(-1)[3] = float(value)
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(BadInput, match=rf"'{name}' (has values that are not finite|is of .*int64)"):
        import_weights(tmp_path / "a.pth", "resnet50")


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "module.pth")  # unpickling a module runs its class
    with pytest.raises(BadInput, match="read safely"):
        import_weights(tmp_path / "module.pth", "resnet50")


def test_a_network_without_public_files_names_those_that_have_some(tmp_path: Path) -> None:
    with pytest.raises(
        BadInput, match=r"no public files of 'resnet20' without SE are known.*resnet50"
    ):
        import_weights(tmp_path / "file.pth", "resnet20")
    with pytest.raises(BadInput, match="unknown backbone 'resnet5O'"):
        import_weights(tmp_path / "file.pth", "resnet5O")
