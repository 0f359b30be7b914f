import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.datasets
from PIL import Image

from senet_ablate.data import cifar as cifar_module
from senet_ablate.data import load_images
from senet_ablate.data.images import ImageSet, Split, image_set
from senet_ablate.data.loader import Batches
from senet_ablate.spec.registry import DATASETS, BadInput
from senet_ablate.spec.spec import Training

CPU = torch.device("cpu")


def training(dataset: str = "image-folder", **fields: object) -> Training:
    known = {"backbone": "resnet20", "epochs": 1, "batch_size": 4, "lr": 0.1}
    return Training.model_validate({"dataset": dataset, **known, **fields})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An ImageNet-layout folder: 2 classes, 6 + 2 images of several sizes, one of them grey."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 2)):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            for index in range(count):
                shape = (20 + index, 30, 3) if index else (24, 24)
                pixels = generator.integers(0, 256, shape, dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / name / f"{index}.png")
    return tmp_path


def test_an_image_folder_is_decoded_once_and_read_from_its_cache(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load_images(training(image_size=16), folder)
    assert first.train.images.shape == (12, 16, 16, 3) and first.classes == ("cat", "dog")
    assert np.bincount(first.test.labels).tolist() == [2, 2]
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("decoded twice"))
    again = load_images(training(image_size=16), folder)
    assert again.checksum == first.checksum
    assert np.array_equal(again.train.images, first.train.images)


def test_an_edited_image_is_decoded_anew(folder: Path) -> None:
    first = load_images(training(image_size=16), folder)
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(folder / "train" / "cat" / "0.png")
    assert load_images(training(image_size=16), folder).checksum != first.checksum


def test_a_cache_travels_without_its_images(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    first = load_images(training(image_size=16), folder)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (folder / "cache").rename(elsewhere / "cache")
    assert load_images(training(image_size=16), elsewhere).checksum == first.checksum


def test_a_damaged_cache_is_never_used(folder: Path) -> None:
    load_images(training(image_size=16), folder)
    pixels = next((folder / "cache").glob("*/train_images.npy"))
    content = bytearray(pixels.read_bytes())
    content[-1] ^= 1
    pixels.write_bytes(content)
    with pytest.raises(BadInput, match=r"damaged.*checksum.*delete it"):
        load_images(training(image_size=16), folder)
    pixels.unlink()
    with pytest.raises(BadInput, match="damaged"):
        load_images(training(image_size=16), folder)


def test_a_half_written_cache_is_never_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("senet_ablate.data.cache.os.fsync", stop)
        with pytest.raises(KeyboardInterrupt):
            load_images(training(image_size=16), folder)
    assert not list((folder / "cache").iterdir())
    assert len(load_images(training(image_size=16), folder).train) == 12


def test_what_is_wrong_with_a_folder_is_said_with_its_path(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with pytest.raises(BadInput, match="image_size"):
        load_images(training(), folder)
    (folder / "train" / "dog" / "3.png").write_bytes(b"no image")
    with pytest.raises(BadInput, match=r"dog/3\.png: cannot be read"):
        load_images(training(image_size=16), folder)
    for path in (folder / "val" / "dog").iterdir():
        path.unlink()
    with pytest.raises(BadInput, match=r"val/dog: no image"):
        load_images(training(image_size=16), folder)


@pytest.mark.parametrize(
    "name", [name for name in DATASETS if name not in ("cue", "cue-negative", "digits")]
)
def test_a_missing_data_set_says_where_it_looked_and_how_to_get_it(
    name: str, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=f"(?s){tmp_path}.*(--download|curl|--data)"):
        load_images(training(name), tmp_path)


@pytest.mark.parametrize(
    ("name", "train", "test", "classes"),
    [("cue", 1280, 800, 2), ("cue-negative", 1280, 800, 2), ("digits", 1297, 500, 10)],
)
def test_an_embedded_set_is_the_same_every_time(
    name: str, train: int, test: int, classes: int, tmp_path: Path
) -> None:
    one, two = (load_images(training(name), tmp_path) for _ in range(2))
    assert one.checksum == two.checksum and len(one.classes) == classes
    assert (len(one.train), len(one.test)) == (train, test)
    assert not list(tmp_path.iterdir()), "nothing is stored"


def small_cifar() -> tuple[Split, Split, list[str]]:
    """Real code on 20 + 10 images:

    the counts and torchvision's file checksums are those of this set.
    """
    generator = np.random.default_rng(1)
    splits = [
        Split(generator.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8), np.arange(n) % 10)
        for n in (20, 10)
    ]
    return (
        splits[0],
        splits[1],
        sorted(
            [
                "airplane",
                "automobile",
                "bird",
                "cat",
                "deer",
                "dog",
                "frog",
                "horse",
                "ship",
                "truck",
            ]
        ),
    )


def test_cifar_is_the_same_set_from_torchvisions_files_and_from_class_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, test, names = small_cifar()
    sets = []
    for layout in ("torchvision", "folders"):
        root = tmp_path / layout
        if layout == "torchvision":
            base = root / "cifar-10-batches-py"
            base.mkdir(parents=True)
            entries: dict[str, dict[str, object]] = {"test_batch": _batch(test)}
            entries |= {
                f"data_batch_{i + 1}": _batch(train.take(np.arange(4 * i, 4 * i + 4)))
                for i in range(5)
            }
            for name, entry in ({"batches.meta": {"label_names": names}} | entries).items():
                (base / name).write_bytes(pickle.dumps(entry))
            digest = {
                name: hashlib.md5((base / name).read_bytes()).hexdigest()
                for name in [*entries, "batches.meta"]
            }
            source = torchvision.datasets.CIFAR10
            monkeypatch.setattr(
                source,
                "train_list",
                [[f"data_batch_{i}", digest[f"data_batch_{i}"]] for i in range(1, 6)],
            )
            monkeypatch.setattr(source, "test_list", [["test_batch", digest["test_batch"]]])
            meta = {"filename": "batches.meta", "key": "label_names", "md5": digest["batches.meta"]}
            monkeypatch.setattr(source, "meta", meta)
        else:
            for kind, split in (("train", train), ("test", test)):
                for index, (image, label) in enumerate(
                    zip(split.images, split.labels, strict=True)
                ):
                    place = root / "cifar10" / kind / names[label]
                    place.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(image).save(place / f"{index}.png")
            monkeypatch.setattr(cifar_module, "SIZES", [20, 10])
        sets.append(DATASETS["cifar10"](root, None, False))
    assert sets[0].checksum == sets[1].checksum and sets[0].classes == sets[1].classes
    assert np.array_equal(sets[0].train.images, sets[1].train.images)


def _batch(split: Split) -> dict[str, object]:
    return {
        "data": split.images.transpose(0, 3, 1, 2).reshape(len(split), -1),
        "labels": split.labels.tolist(),
    }


def test_a_broken_cifar_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "cifar-100-python").mkdir()
    (tmp_path / "cifar-100-python" / "train").write_bytes(b"torn")
    with pytest.raises(BadInput, match=r"cifar-100-python.*--download"):
        load_images(training("cifar100"), tmp_path)


def test_tiny_imagenet_reads_its_standard_layout(tmp_path: Path) -> None:
    root = tmp_path / "tiny-imagenet-200"
    (root / "val" / "images").mkdir(parents=True)
    lines = []
    for label, wnid in enumerate(("n01", "n02")):
        (root / "train" / wnid / "images").mkdir(parents=True)
        for index in range(3):
            Image.new("L" if index else "RGB", (64, 64), 40 * index).save(
                root / "train" / wnid / "images" / f"{index}.JPEG"
            )
        Image.new("RGB", (64, 64), (200 * label, 0, 0)).save(
            root / "val" / "images" / f"val_{label}.JPEG"
        )
        lines.append(f"val_{label}.JPEG\t{wnid}\t0\t0\t1\t1")
    lines.append("val_9.JPEG\tn99\t0\t0\t1\t1")  # of a class that is not there
    (root / "val" / "val_annotations.txt").write_text("\n".join(lines) + "\n")
    (root / "words.txt").write_text("n01\tgoldfish, Carassius auratus\nn02\tcliff, drop\n")
    images = load_images(training("tiny-imagenet", batch_size=2), tmp_path)
    assert images.classes == ("goldfish", "cliff") and len(images.train) == 6
    assert images.test.labels.tolist() == [0, 1] and images.test.images[1, 0, 0, 0] > 150


@pytest.fixture
def counted() -> ImageSet:
    """Images whose every pixel names its image, row and column."""
    index, row, column = np.indices((12, 8, 8), dtype=np.uint8)
    split = Split(np.stack([index + 1, row, column], axis=-1), np.arange(12) % 3)
    return image_set(split, split, ["a", "b", "c"])


def raw(batches: Batches, x: torch.Tensor) -> np.ndarray:
    """Undo the normalisation: N x H x W x 3 pixel values."""
    return (x.permute(0, 2, 3, 1) * batches.std + batches.mean).round().int().numpy()


def test_every_image_comes_once_an_epoch_in_an_order_of_its_own(counted: ImageSet) -> None:
    batches = Batches(counted.train, counted, training(), CPU)
    orders = []
    for seed, epoch in ((0, 1), (0, 2), (1, 1), (0, 1)):
        seen = [raw(batches, x)[:, 0, 0, 0] for x, _ in batches.shuffled(seed, epoch)]
        orders.append(np.concatenate(seen).tolist())
        assert sorted(orders[-1]) == list(range(1, 13))
    assert orders[0] == orders[3] and len({tuple(order) for order in orders}) == 3


def test_the_labels_stay_with_their_images(counted: ImageSet) -> None:
    batches = Batches(counted.train, counted, training(pad_crop=2, flip=True), CPU)
    for x, y in batches.shuffled(0, 1):
        assert ((raw(batches, x)[..., 0].max((1, 2)) - 1) % 3 == y.numpy()).all()


def test_crop_and_flip_are_those_of_a_plain_loop(counted: ImageSet) -> None:
    spec = training(pad_crop=2, flip=True)
    batches = Batches(counted.train, counted, spec, CPU)
    corners, flips = set(), set()
    for epoch in range(30):
        for x, _ in batches.shuffled(0, epoch):
            for image in raw(batches, x):
                number = image[..., 0].max()
                padded = np.pad(counted.train.images[number - 1], ((2, 2), (2, 2), (0, 0))).astype(
                    int
                )
                windows = {
                    (top, left, flip): padded[top : top + 8, left : left + 8][
                        :, :: -1 if flip else 1
                    ]
                    for top in range(5)
                    for left in range(5)
                    for flip in (False, True)
                }
                found = [key for key, window in windows.items() if np.array_equal(window, image)]
                assert len(found) == 1
                corners.add(found[0][:2])
                flips.add(found[0][2])
    assert len(corners) == 25 and flips == {False, True}


@pytest.mark.parametrize(
    "changes",
    [
        {"flip": True, "pad_crop": 2},
        {"scale_crop": (0.3, 1.0), "crop_size": 6, "flip": True},
        {"cutout": 3},
        {},
    ],
    ids=["crop", "scale crop", "cutout", "nothing"],
)
def test_batches_made_together_are_those_made_one_by_one(
    counted: ImageSet, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU augments many batches at once; any processes and any place to begin."""
    train = training(batch_size=2, **changes)
    parts = [(0, 1), (1, 2)]
    alone = [
        [
            (x.clone(), y)
            for x, y in Batches(counted.train, counted, train, CPU, part).shuffled(3, 2, 1)
        ]
        for part in parts
    ]
    monkeypatch.setattr(Batches, "batches_at_once", 3)
    for part, expected in zip(parts, alone, strict=True):
        found = list(Batches(counted.train, counted, train, CPU, part).shuffled(3, 2, 1))
        assert len(found) == len(expected) == len(counted.train) // 2 - 1
        for (x, y), (x_alone, y_alone) in zip(found, expected, strict=True):
            assert torch.equal(x, x_alone) and torch.equal(y, y_alone)
            assert x.stride() == x_alone.stride()


def test_scale_crops_stay_inside_and_keep_the_values_of_the_image(counted: ImageSet) -> None:
    batches = Batches(
        counted.train, counted, training(scale_crop=[0.3, 1.0], crop_size=6, flip=True), CPU
    )
    for x, _ in batches.shuffled(0, 1):
        pixels = raw(batches, x)
        assert pixels.shape[1:] == (6, 6, 3)
        assert (pixels[..., 0].max((1, 2)) == pixels[..., 0].min((1, 2))).all(), "one image a crop"
        assert pixels[..., 1:].min() >= 0 and pixels[..., 1:].max() <= 7
        assert (np.diff(pixels[..., 1], axis=1) >= 0).all(), "rows keep their order"


def test_cutout_is_one_square_of_zeros_an_image_cut_off_at_the_border(counted: ImageSet) -> None:
    whole = Batches(counted.train, counted, training(), CPU)
    cut = Batches(counted.train, counted, training(cutout=4), CPU)
    places = set()
    for epoch in range(20):
        for (x, _), (z, _) in zip(whole.shuffled(0, epoch), cut.shuffled(0, epoch), strict=True):
            for before, after in zip(x, z, strict=True):
                rows, columns = (
                    np.flatnonzero(((after == 0).all(0)).any(axis).numpy()) for axis in (1, 0)
                )
                hole = np.zeros((8, 8), dtype=bool)
                hole[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
                assert 2 <= len(rows) <= 4 and 2 <= len(columns) <= 4
                assert (
                    torch.equal(after[:, ~hole], before[:, ~hole]) and (after[:, hole] == 0).all()
                )
                places.add((rows.min(), columns.min()))
    assert len(places) > 20


def test_a_whole_scale_crop_is_the_image(counted: ImageSet) -> None:
    from senet_ablate.data.loader import _scale_cropped

    pixels = torch.from_numpy(counted.train.images)
    whole = _scale_cropped(pixels, 8, {"edges": torch.ones(12, 2), "place": torch.zeros(12, 2)})
    torch.testing.assert_close(whole, pixels.float())
    draws = {"edges": torch.ones(12, 2), "place": torch.zeros(12, 2)}
    flipped = _scale_cropped(pixels, 8, draws | {"flip": torch.ones(12, dtype=torch.bool)})
    torch.testing.assert_close(flipped, pixels.flip(2).float())


def test_evaluation_sees_every_image_in_order_and_centred(counted: ImageSet) -> None:
    batches = Batches(counted.test, counted, training(crop_size=4), CPU)
    pixels = np.concatenate([raw(batches, x) for x, _ in batches.in_order()])
    assert pixels[:, 0, 0].tolist() == [[number, 2, 2] for number in range(1, 13)]


@pytest.mark.parametrize("normalise", ["mean_std", "mean"])
def test_normalisation_is_that_of_the_training_images(counted: ImageSet, normalise: str) -> None:
    split = counted.train
    images = image_set(split, Split(255 - split.images, split.labels), counted.classes)
    pixels = split.images.astype(float)
    mean, std = pixels.mean((0, 1, 2)), pixels.std((0, 1, 2))
    for part in (images.train, images.test):
        batches = Batches(part, images, training(normalise=normalise), CPU)
        x = torch.cat([x for x, _ in batches.in_order()]).permute(0, 2, 3, 1)
        expected = (part.images - mean) / (std if normalise == "mean_std" else 255.0)
        np.testing.assert_allclose(x, expected, atol=1e-5)


def test_subsets_take_the_same_share_of_every_class(tmp_path: Path) -> None:
    spec = training(
        "digits", train_images=200, test_images=100, validation=0.1, evaluate="validation"
    )
    images = load_images(spec, tmp_path)
    assert len(images.train) == 180 and len(images.test) == 20
    assert np.ptp(np.bincount(images.train.labels)) <= 2
    whole = {image.tobytes() for image in load_images(training("digits"), tmp_path).train.images}
    assert {image.tobytes() for image in images.test.images} <= whole, (
        "validation images are training images"
    )


def test_a_large_part_of_a_set_is_an_index_and_gives_the_same_batches(
    counted: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = np.array([7, 1, 4, 2, 9])
    copied = counted.train.take(places)
    monkeypatch.setattr("senet_ablate.data.images.COPIED_WHOLE", 0)
    indexed = counted.train.take(np.array([3, 7, 1, 4, 2, 9])).take(np.arange(1, 6))
    assert indexed.images is counted.train.images and len(indexed) == 5 and copied.index is None
    for split in (copied, indexed):
        batches = Batches(split, counted, training(pad_crop=1, flip=True), CPU)
        got = [(raw(batches, x), y) for x, y in batches.shuffled(0, 1)]
        got += [(raw(batches, x), y) for x, y in batches.in_order()]
        if split is copied:
            first = got
    assert all(
        np.array_equal(a, c) and torch.equal(b, d)
        for (a, b), (c, d) in zip(first, got, strict=True)
    )


def test_a_crop_larger_than_the_images_is_bad_input(counted: ImageSet) -> None:
    with pytest.raises(BadInput, match="crop_size 9"):
        Batches(counted.test, counted, training(crop_size=9), CPU)


@pytest.mark.parametrize("wrong", [{"train_images": 5000}, {"batch_size": 2000}])
def test_asking_for_more_images_than_there_are_is_bad_input(
    wrong: dict[str, int], tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=r"5,000 of [\d,]+ images|fewer than one batch of 2000"):
        load_images(training("digits", **wrong), tmp_path)


def test_a_recipe_cannot_change_the_size_of_fixed_sets(tmp_path: Path) -> None:
    loaders: list[Callable[..., ImageSet]] = [
        DATASETS[name] for name in ("cue", "cue-negative", "digits", "cifar10", "cifar100")
    ]
    for load in loaders:
        with pytest.raises(BadInput, match="pixels"):
            load(tmp_path, 25, False)
