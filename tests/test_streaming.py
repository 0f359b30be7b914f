"""Images decoded anew each time:

what comes out is what would come out of memory, whatever process decodes it.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as F

from senet_ablate.data import load_images
from senet_ablate.data.loader import Batches
from senet_ablate.data.streaming import Stream, cropped, workers
from senet_ablate.spec.plan import read_plan
from senet_ablate.spec.registry import BadInput
from senet_ablate.spec.spec import Run, Training
from senet_ablate.train.loop import train

CPU = torch.device("cpu")
SIZES = ((40, 52), (61, 44), (48, 48), (90, 50))  # height, width


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes told apart by their colour, 16 + 8 JPEG images of several sizes and kinds."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 16), ("val", 8)):
        for place, name in enumerate(("blue", "green", "red")):
            (tmp_path / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = generator.integers(0, 120, (*SIZES[index % 4], 3))
                pixels[..., 2 - place] += 100
                Image.fromarray(pixels.astype(np.uint8)).save(
                    tmp_path / split / name / f"{index:02}.jpg", quality=95
                )
    return tmp_path


def training(**fields: object) -> Training:
    known = {
        "dataset": "image-stream",
        "backbone": "resnet_tiny_bottleneck",
        "epochs": 2,
        "batch_size": 8,
        "lr": 0.05,
    }
    sizes = {"image_size": 36, "crop_size": 32, "scale_crop": (0.25, 1.0), "flip": True}
    return Training.model_validate({**known, **sizes, **fields})


def epoch(folder: Path, processes: int = 0, number: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    spec = training()
    images = load_images(spec, folder)
    batches = Batches(images.train, images, spec, CPU)
    assert batches.stream is not None
    if processes:
        batches.stream = Stream(images.train.files, 36, 32, processes)
    x, y = zip(*batches.shuffled(0, number), strict=True)
    return torch.cat(x), torch.cat(y)


def test_worker_processes_change_no_pixel_and_no_order(folder: Path) -> None:
    alone, labels = epoch(folder)
    with_two, same = epoch(folder, processes=2)
    assert (
        alone.shape == (48, 3, 32, 32) and sorted(labels.tolist()) == [0] * 16 + [1] * 16 + [2] * 16
    )
    assert torch.equal(alone, with_two) and torch.equal(labels, same)
    assert not torch.equal(alone, epoch(folder, number=2)[0]), "another epoch, other crops"


def test_workers_stay_for_the_next_epoch_and_forget_one_that_was_left(folder: Path) -> None:
    spec = training()
    images = load_images(spec, folder)
    batches = Batches(images.train, images, spec, CPU)
    batches.stream = Stream(images.train.files, 36, 32, 2)
    next(batches.shuffled(0, 1))
    again = torch.cat([x for x, _ in batches.shuffled(0, 2)])
    assert torch.equal(again, epoch(folder, number=2)[0])


@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("shape", SIZES)
def test_a_crop_is_the_part_of_the_image_that_was_drawn(
    shape: tuple[int, int], flipped: bool, tmp_path: Path
) -> None:
    height, width = shape
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    Image.fromarray(np.stack([rows, columns, rows * 0], -1).astype(np.uint8)).save(
        tmp_path / "a.png"
    )
    stream = Stream([tmp_path / "a.png"], 36, 16, 0)
    root = (height * width) ** 0.5
    draws = {
        "image": torch.tensor([0]),
        "edges": torch.tensor([[16 / root, 16 / root]]),  # 16 x 16 pixels: nothing is resized
        "place": torch.tensor([[1.0, -1.0]]),  # at the bottom, to the left
        "flip": torch.tensor([flipped]),
    }
    (crop,) = stream.crops([draws])
    assert crop.dtype == torch.uint8 and crop.shape == (1, 16, 16, 3)
    assert crop[0, :, 0, 0].tolist() == list(range(height - 16, height))
    assert crop[0, 0, :, 1].tolist() == (list(range(16))[::-1] if flipped else list(range(16)))


def test_the_whole_image_is_the_largest_crop(folder: Path) -> None:
    path = folder / "train" / "red" / "01.jpg"
    with Image.open(path) as image:
        width, height = image.size
    edges = 2 * torch.tensor([[height, width]]) / (height * width) ** 0.5
    draws = {"image": torch.tensor([0]), "edges": edges, "place": torch.zeros(1, 2)}
    (crop,) = Stream([path], 36, 32, 0).crops([draws])
    pixels = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)
    expected = F.resize(pixels, [32, 32], antialias=True).permute(1, 2, 0)
    assert (crop[0].int() - expected.int()).abs().max() <= 1, (
        "torchvision rounds otherwise than Pillow"
    )


def test_judged_are_the_centre_squares_that_a_cache_would_hold(folder: Path) -> None:
    kept = load_images(training(dataset="image-folder"), folder)
    streamed = load_images(training(), folder)
    both = [Batches(one.test, kept, training(), CPU) for one in (kept, streamed)]
    for (x, y), (z, label) in zip(both[0].in_order(), both[1].in_order(), strict=True):
        assert torch.equal(x, z) and torch.equal(y, label)


def test_a_part_of_the_set_keeps_files_and_labels_together(folder: Path) -> None:
    images = load_images(training(train_images=24, validation=0.25, evaluate="validation"), folder)
    assert (len(images.train), len(images.test)) == (18, 6)
    for split in (images.train, images.test):
        assert [path.parent.name for path in split.files] == [
            images.classes[label] for label in split.labels
        ]
    assert not set(images.train.files) & set(images.test.files)


@pytest.mark.parametrize("mode", ["L", "CMYK", "P", "RGBA"])
def test_whatever_pillow_reads_becomes_three_channels(mode: str, folder: Path) -> None:
    suffix = ".jpg" if mode in ("L", "CMYK") else ".png"
    path = folder / "train" / "red" / f"odd{suffix}"
    Image.fromarray(np.full((40, 40, 3), 153, np.uint8)).convert(mode).save(path)
    draws = {
        "image": torch.tensor([0]),
        "edges": torch.tensor([[0.5, 0.5]]),
        "place": torch.zeros(1, 2),
    }
    (crop,) = Stream([path], 36, 32, 0).crops([draws])
    assert crop.shape == (1, 32, 32, 3) and (crop.int() - 153).abs().max() <= 4


@pytest.mark.parametrize("processes", [0, 1])
def test_an_image_that_cannot_be_read_is_one_line_with_its_path(
    processes: int, folder: Path
) -> None:
    path = folder / "train" / "red" / "03.jpg"
    path.write_bytes(b"no image")
    stream = Stream([path], 36, 32, processes)
    with pytest.raises(BadInput) as caught:
        list(stream.squares([torch.tensor([0])]))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_the_checksum_follows_the_files_and_not_their_place(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    first = load_images(training(), folder).checksum
    (folder / "cache").rename(tmp_path_factory.mktemp("gone") / "cache")
    moved = folder.rename(folder.parent / "moved")
    assert load_images(training(), moved).checksum == first
    (moved / "train" / "red" / "00.jpg").unlink()
    assert load_images(training(), moved).checksum != first


@pytest.mark.parametrize("fields", [{"image_size": None}, {"scale_crop": None}])
def test_a_recipe_that_streams_says_how_to_crop(fields: dict[str, object], folder: Path) -> None:
    with pytest.raises(BadInput, match=f"image-stream .*{next(iter(fields))}"):
        spec = training(**fields)
        images = load_images(spec, folder)
        next(Batches(images.train, images, spec, CPU).shuffled(0, 1))


@pytest.mark.parametrize("recipe", ["imagenet", "imagenet-fixed"])
def test_the_imagenet_recipes_train_on_a_small_folder(recipe: str, folder: Path) -> None:
    """All of the recipe but its size: augmentation, schedule, validation split, smoothing."""
    small = training().model_dump(include={"image_size", "crop_size", "backbone", "batch_size"})
    schedule = {"patience": 4} if recipe == "imagenet" else {"milestones": (7, 8, 9)}
    validation = 0.25 if recipe == "imagenet" else 0.0
    fields = read_plan(recipe).recipe.train.model_dump() | small | schedule
    spec = Training.model_validate({**fields, "epochs": 10, "validation": validation, "lr": 0.05})
    assert spec.dataset == "image-stream" and spec.scale_crop == (0.08, 1.0)
    run = Run(spec, None, 0)
    record = train(run, load_images(spec, folder), CPU)
    assert record.top1 < 40, "three colours"


def test_a_run_on_a_cpu_decodes_by_itself() -> None:
    assert workers(CPU) == 0


def test_crops_of_files_that_are_not_square_keep_their_aspect(tmp_path: Path) -> None:
    """Of an image of 1000 x 250 pixels whose channel 0 says the column, channel 1 the row."""
    columns, rows = np.meshgrid(np.arange(1000) // 4, np.arange(250))
    picture = np.stack([columns, rows, 0 * rows], 2).astype(np.uint8)
    Image.fromarray(picture).save(tmp_path / "wide.png")
    for aspect in (3 / 4, 1.0, 4 / 3):
        edges = (1 / aspect) ** 0.5, aspect**0.5  # all of the area, which no such crop can have
        crop = cropped(tmp_path / "wide.png", 50, (*edges, 0.0, 0.0, False)).astype(float)
        height, width = np.ptp(crop[:, 25, 1]), 4 * np.ptp(crop[25, :, 0])
        assert height > 240 and width / height == pytest.approx(aspect, rel=0.05)
