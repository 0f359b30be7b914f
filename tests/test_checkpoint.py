"""A public file, made here, judged on a folder in ImageNet's layout, made here."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from checkpoints import randomised
from PIL import Image
from test_cli import inside

from senet_ablate.models.pretrained import import_weights
from senet_ablate.spec.registry import BadInput
from senet_ablate.train.evaluate_folder import IMAGENET, NORMALISED, evaluate_folder

CLASSES, EACH, SIZE = 7, 3, 32


@pytest.fixture(scope="module")
def resnet50(tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.nn.Module, Path]:
    """torchvision's network and its file."""
    torch.manual_seed(0)
    theirs = randomised(torchvision.models.resnet50(num_classes=CLASSES))
    path = tmp_path_factory.mktemp("weights") / "resnet50.pth"
    torch.save(theirs.state_dict(), path)
    return theirs, path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of other sizes than the network's, in folders whose sorted names are the order of the
    classes.
    """
    root, draw = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for label in reversed(range(CLASSES)):
        (root / "val" / f"n{label:08d}").mkdir(parents=True)
        for index in range(EACH):
            pixels = draw.integers(0, 256, (4, 5, 3), dtype=np.uint8).repeat(10, 0).repeat(10, 1)
            Image.fromarray(pixels).save(root / "val" / f"n{label:08d}" / f"{index}.png")
    return root


def theirs_wrong(model: torch.nn.Module, folder: Path) -> tuple[int, int]:
    """Wrong images at top 1 and top 5 by torchvision's network, transforms and class order."""
    transforms = torchvision.transforms.Compose(
        [
            torchvision.transforms.Resize(round(SIZE * 256 / 224)),
            torchvision.transforms.CenterCrop(SIZE),
            torchvision.transforms.ToTensor(),
            torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    images = torchvision.datasets.ImageFolder(folder / "val", transforms)
    with torch.no_grad():
        ranked = model(torch.stack([image for image, _ in images])).argsort(1, descending=True)
    hits = ranked == torch.tensor(images.targets)[:, None]
    return int((~hits[:, 0]).sum()), int((~hits[:, :5].any(1)).sum())


def test_the_errors_are_those_of_torchvisions_network_with_its_own_transforms(
    resnet50: tuple[torch.nn.Module, Path], folder: Path
) -> None:
    theirs, path = resnet50
    wrong1, wrong5 = theirs_wrong(theirs, folder)
    assert 0 < wrong5 < wrong1 < CLASSES * EACH, "a network that is always wrong compares nothing"
    words = (str(path), "resnet50", "--data", str(folder), "--size", str(SIZE), "--device", "cpu")
    code, out, _ = inside("import-weights", *words)
    assert code == 0 and "resnet50, plain, 23,522,375 parameters" in out
    count = CLASSES * EACH
    assert (
        f"{count} images: top-1 error {100 * wrong1 / count:.2f}%, top-5 error"
        f" {100 * wrong5 / count:.2f}%" in out
    )


def test_the_colours_of_public_networks_are_those_that_they_were_trained_with() -> None:
    assert np.allclose(IMAGENET, 255 * np.array([(0.485, 0.456, 0.406), (0.229, 0.224, 0.225)]))
    theirs = timm.get_pretrained_cfg("inception_resnet_v2")  # not ImageNet's
    assert np.allclose(NORMALISED["inception_resnet_v2"], 255 * np.array([theirs.mean, theirs.std]))


def test_images_are_judged_a_few_at_a_time_and_a_folder_may_be_val_itself(
    resnet50: tuple[torch.nn.Module, Path], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, done = import_weights(resnet50[1], "resnet50"), []
    whole = evaluate_folder(model, "resnet50", folder, SIZE)
    assert len(whole.correct) == CLASSES * EACH
    monkeypatch.setattr("senet_ablate.data.loader.EVALUATION_BATCH", 8)
    again = evaluate_folder(model, "resnet50", folder / "val", SIZE, progress=done.append)
    assert (again.correct == whole.correct).all() and again.wrong_top5 == whole.wrong_top5
    assert done == [8, 8, 5]


def test_another_number_of_classes_is_refused(
    resnet50: tuple[torch.nn.Module, Path], tmp_path: Path
) -> None:
    (tmp_path / "val" / "n00000001").mkdir(parents=True)
    model = import_weights(resnet50[1], "resnet50")
    with pytest.raises(BadInput, match="val: 1 folders of classes, but the network tells 7 apart"):
        evaluate_folder(model, "resnet50", tmp_path)
    with pytest.raises(BadInput, match="nowhere: 0 folders of classes"):
        evaluate_folder(model, "resnet50", tmp_path / "nowhere")


def test_the_command_says_what_is_wrong_in_one_line(
    resnet50: tuple[torch.nn.Module, Path], folder: Path
) -> None:
    _, path = resnet50
    for words, message in (
        (("absent.pth", "resnet50"), "no such file"),
        ((str(path), "resnet50", "--se", "bias=true"), "with SE or without?"),
        ((str(path), "resnet20"), "no public files of 'resnet20'"),
    ):
        code, _, errors = inside("import-weights", *words, "--data", str(folder))
        assert code == 2 and message in errors and "Traceback" not in errors
