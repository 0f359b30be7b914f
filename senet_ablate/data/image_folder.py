"""Any images in class folders, any size: split by hand (ImageNet's layout) or not at all."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from senet_ablate.data.cache import cache_folder
from senet_ablate.data.files import (
    class_folders,
    class_names,
    decoded,
    image_files,
    shorter_edge,
    shown,
)
from senet_ablate.data.images import NO_FILES, ImageSet, Split
from senet_ablate.spec import BadInput

# in any case of letters; of those for the test the first that is there
TRAINS, TESTS = ("train", "training"), ("val", "valid", "validation", "test", "testing")
TEST_SHARE = 5  # one image in so many is a test image where there are no folders for them
MEASURED = 500  # images that a set's own size is taken from


def missing(root: Path, folders: str) -> str:
    """What to say where no images are found."""
    found = f"holds no {folders} folders of images" if root.is_dir() else "no such folder"
    return f"{root}: {found}; name yours with --data DIR"


def split_folders(root: Path) -> tuple[Path | None, Path | None]:
    """The folders of training and of test images, as far as they are there; one without class
    folders below it may be a class of that name.
    """
    below = {name.lower(): root / name for name in class_names(root) if class_names(root / name)}
    train = next((below[name] for name in TRAINS if name in below), None)
    return train, next((below[name] for name in TESTS if name in below), None)


def _beside(root: Path, train: Path, test: Path | None) -> Counter[str]:
    """The images of folders that are named like those of a split and are not used, with why."""
    found = Counter[str]()
    for name in class_names(root):
        if name.lower() in (*TRAINS, *TESTS) and root / name not in (train, test):
            used = train if name.lower() in TRAINS else test
            why = f"since {used.name}/ is used" if used else "which has no class folders"
            found[f"in {name}/, {why}"] += len(image_files(root / name, Counter()))
    return +found


def find(root: Path) -> tuple[list[str], Split, Split]:
    """The class names and the files of train/ and of val/ or test/; nothing where there are no such
    folders.

    Raises BadInput for fewer than two classes, or for folders in val/ that train/ has not.
    """
    train, test = split_folders(root)
    if train is None or test is None:
        return [], NO_FILES, NO_FILES
    classes = _two_or_more(train, class_names(train))
    for name in class_names(test):
        if name not in classes:
            raise BadInput(
                f"{test / name}: {train} has no class {shown(name)!r}, so its images would be left"
                " out; add or remove the folder"
            )
    files, tested = class_folders(train, classes), class_folders(test, classes)
    tested.left_out.update(_beside(root, train, test))
    return classes, files, tested


def load(root: Path, image_size: int | None, download: bool) -> ImageSet:
    """The folder's images at `image_size`; the classes are the names of the folders in train/."""
    name = f"image-folder-{image_size or 'native'}"
    classes, train, test = find(root)
    how_to_get = missing(root, "train/<class>/ and val/<class>/")
    return decoded(name, root, train, test, image_size, classes, how_to_get)


def load_own(root: Path, image_size: int | None, download: bool) -> ImageSet:
    """Class folders with or without train/ and val/, at their own size but at most `image_size`.

    Their own size is the median of the shorter edges. Where no images are set apart for the test,
    one in five of each class is, the same ones every time.
    """
    classes, train, test = find(root)
    if not classes:
        folder, lonely = split_folders(root)
        if lonely and not folder and image_files(lonely, Counter()):
            raise BadInput(f"{lonely}: a test without training images; put them into train/")
        above = folder or root
        names, unread = list[str](), Counter[str]()
        for name in class_names(above):
            others = Counter[str]()
            if image_files(above / name, others):
                names.append(name)
            elif others and (above / name).absolute() != cache_folder(root).absolute():
                what = f"in {shown(name)}/, no class: none of its files is an image that is read"
                unread[what] = others.total()
        classes = _two_or_more(above, names)
        train, test = _divided(class_folders(above, classes))
        train.left_out.update(unread)
        if folder:
            train.left_out.update(_beside(root, folder, None))
    size = None
    if classes:
        sample = train.files[:: -(-len(train) // MEASURED)]
        own_size = int(np.median([shorter_edge(path) for path in sample]))
        size = min(image_size or own_size, own_size)
    name = f"own-images-{size}" if size else "own-images"
    return decoded(name, root, train, test, size, classes, missing(root, "<class>/"))


def _two_or_more(folder: Path, names: list[str]) -> list[str]:
    """`names`, the classes in a folder. Raises BadInput for a single one."""
    if len(names) == 1:
        below = ", ".join(map(shown, class_names(folder / names[0])[:3]))
        deeper = f"; are the classes one level down ({below})?" if below else ""
        found = f"one class folder, {shown(names[0])!r}"
        raise BadInput(f"{folder}: {found}, where two or more are needed{deeper}")
    return names


def _divided(split: Split) -> tuple[Split, Split]:
    """Training and test files. Raises BadInput for a class of one image."""
    tested = np.zeros(len(split), dtype=bool)
    for label in np.unique(split.labels):
        places = np.random.default_rng(0).permutation(np.flatnonzero(split.labels == label))
        if len(places) == 1:
            raise BadInput(f"{split.files[places[0]]}: the one image of its class; two are needed")
        tested[places[: max(1, len(places) // TEST_SHARE)]] = True
    train, test = (split.take(np.flatnonzero(part)) for part in (~tested, tested))
    return replace(train, left_out=split.left_out), test
