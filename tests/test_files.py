"""What people bring: pictures, folders, links, names, disks. torchvision's ImageFolder says which
files count and what their pixels are.
"""

import errno
import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from senet_ablate.data import cifar, load_images
from senet_ablate.data.files import decode_one, opened
from senet_ablate.data.images import ImageSet
from senet_ablate.spec.registry import BadInput
from senet_ablate.spec.spec import Training
from senet_ablate.train.evaluate_folder import _ordered

RAMP = np.arange(256, dtype=np.uint16).reshape(16, 16)


def training(dataset: str = "image-folder", **fields: object) -> Training:
    known = {"backbone": "resnet20", "epochs": 1, "batch_size": 4, "lr": 0.1}
    return Training.model_validate({"dataset": dataset, **known, **fields})


def picture(path: Path, size: tuple[int, int] = (16, 16), seed: int = 0) -> Path:
    """A file of noise; size: height, width."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng([seed, *os.fsencode(path.name)]).integers(
        0, 256, (*size, 3), np.uint8
    )
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """2 classes, 8 + 4 images each."""
    for split, count in (("train", 8), ("val", 4)):
        for name in ("cat", "dog"):
            for index in range(count):
                picture(tmp_path / split / name / f"{index}.png", seed=index)
    return tmp_path


def counts(images: ImageSet) -> list[list[int]]:
    return [np.bincount(split.labels).tolist() for split in (images.train, images.test)]


# pixels


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_sixteen_bits_count_by_their_high_byte(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"ramp.{suffix}"
    if suffix == "pgm":
        path.write_bytes(b"P5\n16 16\n65535\n" + (RAMP * 257).astype(">u2").tobytes())
    else:
        Image.fromarray(RAMP * 257).save(path)
    found = decode_one(path, None)
    assert found.shape == (16, 16, 3) and (found == RAMP[..., None]).all()


def test_sixteen_bits_of_the_other_byte_order_and_in_colour(tmp_path: Path) -> None:
    Image.fromarray((RAMP * 257).astype(">u2")).save(tmp_path / "big.tif")
    assert (decode_one(tmp_path / "big.tif", None) == RAMP[..., None]).all()
    head, samples = b"P6\n16 16\n65535\n", np.stack([RAMP, RAMP[::-1], RAMP.T], -1)
    (tmp_path / "colour.ppm").write_bytes(head + (samples * 257).astype(">u2").tobytes())
    assert (decode_one(tmp_path / "colour.ppm", None) == samples).all()


def test_the_same_pictures_in_eight_and_sixteen_bits_are_the_same_set(folder: Path) -> None:
    for path in folder.rglob("*.png"):
        Image.fromarray(np.asarray(Image.open(path).convert("L"))).save(path)
    eight = load_images(training(), folder)
    for path in folder.rglob("*.png"):
        Image.fromarray(np.asarray(Image.open(path)).astype(np.uint16) * 257).save(path)
    sixteen = load_images(training(), folder)
    assert sixteen.checksum == eight.checksum and sixteen.std == eight.std and eight.std[0] > 40


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_pictures_of_thirty_two_bits_are_refused_by_name(kind: type, folder: Path) -> None:
    path = folder / "train" / "cat" / "deep.tif"
    Image.fromarray(RAMP.astype(kind)).save(path)
    with pytest.raises(BadInput, match=r"cat/deep\.tif: .*32 bits a sample, mode [IF]"):
        load_images(training(), folder)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"])
@pytest.mark.parametrize("exif", [False, True])
def test_every_other_kind_of_picture_is_as_torchvision_has_it(
    mode: str, exif: bool, folder: Path
) -> None:
    base = Image.open(folder / "train" / "cat" / "0.png")
    suffix = {"CMYK": "jpg", "YCbCr": "jpg", "PA": "tif"}.get(mode, "png")
    path = folder / "train" / "cat" / f"odd.{suffix}"
    image = base.convert("RGBA" if mode == "P" else mode if mode != "PA" else "P")
    if mode == "P":
        image = image.quantize(16)
        image.info["transparency"] = bytes(range(0, 256, 16))
    orientation = Image.Exif()
    orientation[274] = 6
    image.save(path, **({"exif": orientation} if exif else {}))
    theirs = ImageFolder(str(folder / "train"))
    place = [Path(name).name for name, _ in theirs.samples].index(path.name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about palettes with transparency
        expected = np.asarray(theirs[place][0])
    assert (decode_one(path, None) == expected).all(), "and with no warning"


@pytest.mark.parametrize("size", [(32, 20), (20, 32)])
@pytest.mark.parametrize(
    "augmented", [{}, {"flip": True}, {"pad_crop": 2}, {"crop_size": 16}, {"cutout": 4}]
)
def test_pictures_that_are_not_square_are_refused_before_training(
    size: tuple[int, int], augmented: dict[str, object], folder: Path
) -> None:
    for path in folder.rglob("*.png"):
        picture(path, size)
    with pytest.raises(
        BadInput, match=f"{size[1]}x{size[0]} pixels, not {size[0]}x{size[0]}; .*image_size"
    ):
        load_images(training(**augmented), folder)
    images = load_images(training(**augmented, image_size=20), folder)
    assert images.train.images.shape == (16, 20, 20, 3)


def test_splits_of_two_sizes_are_refused_before_training(folder: Path) -> None:
    for path in (folder / "val").rglob("*.png"):
        picture(path, (28, 28))
    with pytest.raises(BadInput, match=r"16x16 pixels and test images of 28x28.*image_size"):
        load_images(training(), folder)


@pytest.mark.parametrize("size", [(28, 28), (64, 64), (32, 40)])
def test_cifar_in_class_folders_has_images_of_thirty_two_pixels(
    size: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cifar, "SIZES", [10, 10])
    for split in ("train", "test"):
        for label in range(10):
            picture(tmp_path / "cifar10" / split / f"c{label}" / "0.png", size)
    with pytest.raises(BadInput, match=r"cifar10/train/c0/0\.png: .*not 32x32"):
        load_images(training("cifar10"), tmp_path)


# which files count


def test_every_suffix_of_torchvisions_counts_and_the_others_are_counted(folder: Path) -> None:
    for index in range(5):
        picture(folder / "train" / "cat" / f"{index}.tif")
        picture(folder / "train" / "cat" / f"{index}.gif")
    for index, suffix in enumerate(("TIFF", "pgm", "webp")):
        picture(folder / "val" / "cat" / f"{index}.{suffix}")
    (folder / "val" / "cat" / "README").write_text("")
    picture(folder / "train" / "stray.png")
    images = load_images(training(), folder)
    theirs = [ImageFolder(str(folder / split)) for split in ("train", "val")]
    assert counts(images) == [[13, 8], [7, 4]]
    assert counts(images) == [np.bincount(one.targets).tolist() for one in theirs]
    assert images.left_out == {".gif": 5, "without a suffix": 1, ".png beside the class folders": 1}


def test_a_file_is_no_other_program_to_run_whatever_its_suffix(folder: Path) -> None:
    picture(folder / "train" / "cat" / "a.gif")
    gif = (folder / "train" / "cat" / "a.gif").rename(folder / "train" / "cat" / "a.jpg")
    assert opened(gif).mode == "RGB", "GIFs are often called so"
    Image.new("RGB", (8, 8)).save(folder / "train" / "cat" / "b.eps")
    eps = (folder / "train" / "cat" / "b.eps").rename(folder / "train" / "cat" / "b.png")
    with pytest.raises(BadInput, match=r"b\.png: cannot be read as an image"):
        opened(eps)


def test_a_class_of_unreadable_suffixes_says_what_is_there(folder: Path) -> None:
    for path in (folder / "train" / "cat").iterdir():
        path.rename(path.with_suffix(".gif"))
    with pytest.raises(BadInput, match=r"no image of class 'cat' here \(left out so far: 8 .gif"):
        load_images(training(), folder)


def test_hidden_files_and_folders_do_not_count_at_any_depth(folder: Path) -> None:
    picture(folder / "val" / "cat" / ".ipynb_checkpoints" / "0-checkpoint.png")
    picture(folder / "val" / "cat" / "deep" / ".hidden" / "a.png")
    picture(folder / "train" / "cat" / ".hidden.png")
    (folder / "train" / "dog" / "._0.png").write_bytes(b"of a Mac")
    picture(folder / "train" / ".ipynb_checkpoints" / "a.png")
    images = load_images(training(), folder)
    assert counts(images) == [[8, 8], [4, 4]] and images.left_out == {"hidden": 4}


def test_a_class_of_the_test_split_alone_is_refused_by_name(folder: Path) -> None:
    for index in range(4):
        picture(folder / "val" / "horse" / f"{index}.png")
    with pytest.raises(BadInput, match=r"val/horse: .*train has no class 'horse'"):
        load_images(training(), folder)
    for dataset in ("image-stream", "own-images"):
        with pytest.raises(BadInput, match="horse"):
            load_images(training(dataset, image_size=16), folder)


def test_a_class_of_the_training_split_alone_is_refused_by_name(folder: Path) -> None:
    picture(folder / "train" / "horse" / "0.png")
    with pytest.raises(BadInput, match=r"val/horse: "):
        load_images(training(), folder)


def test_links_are_followed_and_a_circle_ends(folder: Path, tmp_path_factory: Any) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for index in range(6):
        picture(elsewhere / f"{index}.png", seed=index)
    (folder / "train" / "cat" / "more").symlink_to(elsewhere)
    (folder / "train" / "dog" / "linked.png").symlink_to(elsewhere / "0.png")
    theirs = np.bincount(ImageFolder(str(folder / "train")).targets).tolist()
    images = load_images(training(), folder)
    assert counts(images)[0] == [14, 9] == theirs
    (folder / "train" / "cat" / "self").symlink_to(folder / "train" / "cat")
    (elsewhere / "back").symlink_to(folder / "train" / "cat" / "more")
    images = load_images(training(), folder)
    assert counts(images)[0] == [14, 9] and images.left_out["folder linked into itself"] == 2


@pytest.mark.parametrize("target", ["nowhere.png", "loop.png"])
def test_a_link_that_leads_nowhere_is_named(target: str, folder: Path) -> None:
    (folder / "train" / "cat" / "loop.png").symlink_to(target)
    with pytest.raises((BadInput, OSError), match=r"cat/loop\.png"):
        load_images(training(), folder)


def test_a_folder_that_cannot_be_read_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "train" / "cat" / "locked").mkdir()
    scandir = os.scandir

    def locked(path: Any) -> Any:  # as for another user: the tests may run as root
        if Path(path).name == "locked":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", locked)
    with pytest.raises(BadInput, match=r"cat/locked: cannot be read \(Permission denied\)"):
        load_images(training(), folder)


@pytest.mark.parametrize("dataset", ["image-folder", "image-stream", "own-images"])
def test_fewer_than_two_classes_are_refused_and_the_level_below_is_named(
    dataset: str, folder: Path
) -> None:
    for split in ("train", "val"):
        (folder / split).rename(folder / "kept")
        (folder / split).mkdir()
        (folder / "kept").rename(folder / split / "animals")
    with pytest.raises(
        BadInput, match=r"train: one class folder, 'animals'.*level down \(cat, dog"
    ):
        load_images(training(dataset, image_size=16), folder)


def test_names_that_are_no_utf8_are_read(folder: Path) -> None:
    for split in ("train", "val"):
        (folder / split / "cat").rename(folder / split / os.fsdecode(b"caf\xe9"))
        picture(folder / split / "dog" / os.fsdecode(b"\xff\xfe.png"))
    for dataset in ("image-folder", "image-stream"):
        images = load_images(training(dataset, image_size=16), folder)
        assert images.classes == (r"caf\udce9", "dog") and counts(images) == [[8, 9], [4, 5]]


def test_what_was_found_is_one_line(folder: Path) -> None:
    images = load_images(training(), folder)
    assert images.summary() == (
        f"2 classes (cat, dog), 16 training and 8 test images of 16x16 pixels; cache {images.cache}"
    )
    assert images.cache is not None and images.cache.parent == folder / "cache"
    held = load_images(training(validation=0.25, evaluate="validation"), folder)
    assert "12 training and 4 test images of 16x16 pixels, 4 held out" in held.summary()


# own images


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Class folders and nothing else, of odd sizes."""
    generator = np.random.default_rng(0)
    for name, count in (("beach", 11), ("forest", 10), ("night", 3)):
        for index in range(count):
            size = tuple(generator.integers(40, 200, 2))
            picture(tmp_path / name / f"{index}.{'png' if index % 2 else 'jpg'}", size)
    (tmp_path / "beach" / "notes.txt").write_text("")
    (tmp_path / "papers").mkdir()
    return tmp_path


def own(root: Path, image_size: int | None = 64) -> ImageSet:
    return load_images(training("own-images", image_size=image_size), root)


def test_own_images_are_divided_class_by_class_and_the_same_every_time(photographs: Path) -> None:
    images = own(photographs)
    assert images.classes == ("beach", "forest", "night") and images.left_out == {".txt": 1}
    assert counts(images) == [[9, 8, 2], [2, 2, 1]]
    assert images.train.images.shape[1:] == (64, 64, 3)
    cache = images.cache
    again = own(photographs)  # and the folder of the cache is no class
    assert (again.checksum, again.cache) == (images.checksum, cache)
    seen = {image.tobytes() for image in images.train.images}
    assert not any(image.tobytes() in seen for image in images.test.images)


def test_own_images_stay_as_large_as_they_are(photographs: Path) -> None:
    for path in photographs.rglob("*.*g"):
        picture(path, (24, 30))
    assert own(photographs).train.images.shape[1:] == (24, 24, 3)
    assert own(photographs, 16).train.images.shape[1:] == (16, 16, 3)
    assert own(photographs, None).train.images.shape[1:] == (24, 24, 3)


@pytest.mark.parametrize("test", ["val", "valid", "validation", "test"])
def test_own_images_that_are_divided_already_stay_so(test: str, folder: Path) -> None:
    (folder / "val").rename(folder / "kept")
    (folder / "kept").rename(folder / test)
    assert counts(own(folder)) == [[8, 8], [4, 4]]


def test_own_images_in_a_train_folder_alone_are_divided(folder: Path) -> None:
    (folder / "val").rename(folder.parent / f"{folder.name}-val")
    assert counts(own(folder)) == [[7, 7], [1, 1]]


def test_a_class_of_one_image_is_refused_by_name(photographs: Path) -> None:
    picture(photographs / "alone" / "0.png")
    with pytest.raises(BadInput, match=r"alone/0\.png: the one image of its class"):
        own(photographs)


# labels


@pytest.mark.parametrize(
    ("names", "order", "warned"),
    [
        ([str(number) for number in range(12)], [str(number) for number in range(12)], False),
        (["00", "01", "02"], ["00", "01", "02"], False),
        (["n01440764", "n01443537"], ["n01440764", "n01443537"], False),
        (["1", "10", "2"], ["1", "10", "2"], True),
        (["cat", "dog"], ["cat", "dog"], True),
        (["0", "1", "x"], ["0", "1", "x"], True),
    ],
)
def test_folders_are_numbered_as_the_network_is_or_a_warning_says_how(
    names: list[str], order: list[str], warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    assert _ordered(sorted(names)) == order
    assert bool(caplog.records) == warned
    assert not warned or ", ".join(order[:3]) in caplog.text


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Tiny ImageNet of three classes, 4 + 2 images each; its annotations."""
    root = tmp_path / "tiny-imagenet-200"
    lines = []
    for label, wnid in enumerate(("n01", "n02", "n03")):
        for index in range(4):
            picture(root / "train" / wnid / "images" / f"{wnid}_{index}.JPEG", (64, 64))
        for index in range(2):
            name = f"val_{2 * label + index}.JPEG"
            picture(root / "val" / "images" / name, (64, 64))
            lines.append(f"{name}\t{wnid}\t0\t0\t62\t62\n")
    (root / "words.txt").write_text("n01\tcrane\nn02\tcrane, bird\nn03\tcliff\n")
    annotations = root / "val" / "val_annotations.txt"
    annotations.write_text("".join(lines))
    return annotations


def test_classes_of_one_name_are_told_apart_and_words_of_another_encoding_are_read(
    tiny: Path, tmp_path: Path
) -> None:
    images = load_images(training("tiny-imagenet"), tmp_path)
    assert images.classes == ("crane (n01)", "crane (n02)", "cliff")
    assert counts(images) == [[4, 4, 4], [2, 2, 2]] and not images.left_out
    (tmp_path / "cache").rename(tmp_path / "old")
    (tiny.parents[1] / "words.txt").write_bytes("n01\tcafé\n".encode("latin-1"))
    assert load_images(training("tiny-imagenet"), tmp_path).classes == ("caf\ufffd", "n02", "n03")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda text: "", r"no image of class 'n01'"),
        (lambda text: text[:-20], r"line 6 has [12] fields"),
        (lambda text: text.replace("\t", " "), r"line 1 has 1 fields"),
        (lambda text: "val_0.JPEG\nval_1.JPEG\n", r"line 1 has 1 fields"),
        (lambda text: text + text.splitlines()[0], r"line 7 names val_0\.JPEG a second time"),
        (lambda text: text.replace("n03", "n02"), r"no image of class 'n03'"),
        (lambda text: "".join(text.splitlines(True)[:3]), r"no image of class 'n03'"),
        (lambda text: text.replace("val_0.", "val_77."), r"val_77\.JPEG"),
    ],
)
def test_annotations_that_are_cut_or_contradict_each_other_are_named(
    edit: Any, message: str, tiny: Path, tmp_path: Path
) -> None:
    tiny.write_text(edit(tiny.read_text()))
    with pytest.raises((BadInput, FileNotFoundError), match=message):
        load_images(training("tiny-imagenet"), tmp_path)


def test_what_the_annotations_leave_out_is_counted_and_a_part_is_said_to_be_one(
    tiny: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = tiny.read_text().splitlines(True)
    tiny.write_text("\ufeff" + "".join(lines[:5]) + "val_9.JPEG\tn99\t0\t0\t1\t1\n")
    images = load_images(training("tiny-imagenet"), tmp_path)
    assert counts(images)[1] == [2, 2, 1]
    assert images.left_out == {"validation image of a class that train/ has not": 1}
    assert "3 classes of 4 to 4 images, where the whole set has 200 of 500" in caplog.text
    picture(tiny.parent / "images" / "val_9.JPEG", (64, 64))
    images = load_images(training("tiny-imagenet"), tmp_path)
    assert images.left_out["validation image without an annotation"] == 1


# caches


def cache_of(folder: Path) -> Path:
    cache = load_images(training(), folder).cache
    assert cache is not None
    return cache


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named_with_the_room_needed_and_nothing_is_left_behind(
    error: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(BadInput, match=rf"{folder}/cache: .*12,416 bytes are needed.*--cache"):
        load_images(training(), folder)
    assert not list((folder / "cache").iterdir())


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o755), (0o077, 0o700), (0o002, 0o775)])
def test_a_cache_is_readable_by_whom_the_umask_lets(mask: int, mode: int, folder: Path) -> None:
    before = os.umask(mask)
    try:
        cache = cache_of(folder)
    finally:
        os.umask(before)
    assert cache.stat().st_mode & 0o777 == mode
    for path in cache.iterdir():
        assert path.stat().st_mode & 0o777 == mode & 0o666


def test_a_cache_that_may_not_be_read_is_not_called_damaged(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = cache_of(folder) / "facts.json"
    read_text = Path.read_text

    def locked(path: Path, *words: Any, **named: Any) -> str:
        if path == facts:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return read_text(path, *words, **named)

    monkeypatch.setattr(Path, "read_text", locked)
    with pytest.raises(BadInput, match=rf"{facts}: you may not read this cache; .*--cache") as said:
        load_images(training(), folder)
    assert "delete" not in str(said.value)


def test_a_data_folder_that_may_not_be_written_names_the_way_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: Any
) -> None:
    mkdir = Path.mkdir

    def locked(path: Path, *words: Any, **named: Any) -> None:
        if folder in path.parents:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        mkdir(path, *words, **named)

    monkeypatch.setattr(Path, "mkdir", locked)
    for dataset in ("image-folder", "image-stream"):
        with pytest.raises(BadInput, match=r"--cache or \$SENET_ABLATE_CACHE"):
            load_images(training(dataset, image_size=16), folder)
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "caches"
    monkeypatch.setenv("SENET_ABLATE_CACHE", str(elsewhere))
    for dataset in ("image-folder", "image-stream"):
        assert len(load_images(training(dataset, image_size=16), folder).train) == 16
    assert len(list(elsewhere.iterdir())) == 2


@pytest.mark.parametrize("name", ["train_images", "train_labels", "test_images", "test_labels"])
@pytest.mark.parametrize("spoilt", ["empty", "cut", "gone", "zeros", "other"])
def test_a_damaged_file_of_a_cache_is_a_line(name: str, spoilt: str, folder: Path) -> None:
    path = cache_of(folder) / f"{name}.npy"
    content = path.read_bytes()
    if spoilt == "gone":
        path.unlink()
    elif spoilt == "other":
        np.save(path, np.zeros((3, 2)))
    else:
        new = {"empty": b"", "cut": content[:-7], "zeros": bytes(len(content))}
        path.write_bytes(new[spoilt])
    with pytest.raises(BadInput, match=r"cache .* is damaged .*delete it"):
        load_images(training(), folder)


@pytest.mark.parametrize(
    "edit",
    [
        {"mean": [1.0, 2.0, 3.0]},
        {"mean": [float("nan"), 1.0, 1.0]},
        {"std": [0.0, 1.0, 1.0], "seal": ""},
        {"std": [1.0, 1.0], "seal": ""},
        {"classes": ["cat", "cow"]},
        {"classes": "cat", "seal": ""},
        {"checksum": None},
        {"more": 1},
        "",
        "[]",
        "{",
        "\x00",
    ],
)
def test_what_a_cache_says_beside_its_pixels_is_checked(edit: Any, folder: Path) -> None:
    path = cache_of(folder) / "facts.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps(facts | edit) if isinstance(edit, dict) else edit)
    with pytest.raises(BadInput, match=r"cache .* is damaged .*delete it"):
        load_images(training(), folder)


def test_a_cache_from_before_there_were_seals_is_read(folder: Path) -> None:
    path = cache_of(folder) / "facts.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({key: facts[key] for key in ("classes", "mean", "std", "checksum")}))
    assert load_images(training(), folder).classes == ("cat", "dog")


@pytest.mark.parametrize("content", [b"", b"[[1, 1, 1], [1, 1, 1]]", b'{"mean": NaN}', b"\xff"])
def test_statistics_of_a_stream_that_are_not_whole_are_taken_anew(
    content: bytes, folder: Path
) -> None:
    first = load_images(training("image-stream", image_size=16), folder)
    (path,) = (folder / "cache").iterdir()
    path.write_bytes(content)
    again = load_images(training("image-stream", image_size=16), folder)
    assert (again.mean, again.std) == (first.mean, first.std) and first.std[0] > 40


BUILD = """
import sys, time
from pathlib import Path
from senet_ablate.data import cache, load_images
from senet_ablate.spec.spec import Training
save = cache.np.save
def slowly(*words):
    print("saving", flush=True)
    time.sleep(float(sys.argv[2]))
    save(*words)
cache.np.save = slowly
spec = dict(dataset="image-folder", backbone="resnet20", epochs=1, batch_size=4, lr=0.1)
print(load_images(Training(**spec), Path(sys.argv[1])).checksum)
"""


def build(folder: Path, seconds: float) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", BUILD, str(folder), str(seconds)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def test_what_a_killed_build_leaves_goes_with_the_next_one_and_a_live_one_stays(
    folder: Path,
) -> None:
    for _ in range(2):
        one = build(folder, 60)
        assert one.stdout is not None and one.stdout.readline() == "saving\n"
        one.kill()
        one.wait()
        one.stdout.close()
    assert [path for path in (folder / "cache").iterdir() if path.is_dir()], "it was at it"
    picture(folder / "train" / "cat" / "new.png")  # so that the next cache is another one
    two = [build(folder, 0.5) for _ in range(2)]
    said = [one.communicate()[0].splitlines() for one in two]
    assert [one.returncode for one in two] == [0, 0]
    assert said[0][-1] == said[1][-1] and sorted(map(len, said)) == [1, 3], "one builds, one waits"
    (left,) = (folder / "cache").iterdir()
    assert left.name.startswith("image-folder-native-")


def test_split_folders_are_known_by_other_names_and_none_is_dropped_without_a_word(
    folder: Path,
) -> None:
    shutil.copytree(folder / "val", folder / "test")
    images = load_images(training("own-images"), folder)
    assert counts(images) == [[8, 8], [4, 4]]
    assert images.left_out == {"in test/, since val/ is used": 8}
    shutil.rmtree(folder / "test")
    for name in ("test", "VALID"):  # without class folders, as the unlabelled images of ImageNet
        picture(folder / name / "1.png")
    images = load_images(training("own-images"), folder)
    kinds = [f"in {name}/, since val/ is used" for name in ("VALID", "test")]
    assert images.left_out == dict.fromkeys(kinds, 1)
    (folder / "val").rename(folder / "kept")
    images = load_images(training("own-images"), folder)
    assert images.left_out == {f"in {n}/, which has no class folders": 1 for n in ("VALID", "test")}
    for name in ("test", "VALID"):
        shutil.rmtree(folder / name)
    (folder / "kept").rename(folder / "test")
    (folder / "train").rename(folder / "Training")
    (folder / "test").rename(folder / "Testing")
    for dataset in ("own-images", "image-folder", "image-stream"):
        images = load_images(training(dataset, image_size=16), folder)
        assert images.classes == ("cat", "dog") and counts(images) == [[8, 8], [4, 4]]
        assert not images.left_out
    (folder / "Training").rename(folder / "photos")
    for name in ("Train", "Test"):
        picture(folder / name / "1.png")
        picture(folder / name / "2.png")
    (folder / "Testing").rename(folder / "kept")
    images = load_images(training("own-images"), folder)
    assert images.classes == ("Test", "Train", "kept", "photos"), "classes of those names"
    (folder / "val" / "empty").mkdir(parents=True)
    assert load_images(training("own-images"), folder).classes == images.classes
    shutil.rmtree(folder / "val")
    (folder / "kept").rename(folder / "Testing")
    with pytest.raises(BadInput, match="Testing: a test without training images"):
        load_images(training("own-images"), folder)


def test_a_class_of_which_no_file_is_read_is_named(folder: Path) -> None:
    for name in ("cat", "dog"):
        (folder / "train" / name).rename(folder / name)
    shutil.rmtree(folder / "train")
    shutil.rmtree(folder / "val")
    (folder / "bird").mkdir()
    for number in range(3):
        (folder / "bird" / f"{number}.gif").write_bytes(b"GIF89a")
    for _ in range(2):  # beside its own cache, too
        images = load_images(training("own-images"), folder)
        assert images.classes == ("cat", "dog")
        said = "in bird/, no class: none of its files is an image that is read"
        assert images.left_out == {said: 3}
