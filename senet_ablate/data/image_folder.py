"""Any images in ImageNet's layout: train/<class>/ and val/<class>/ (or test/<class>/), any size."""

from pathlib import Path

from senet_ablate.data.images import Files, ImageSet, cached, class_folders, decoded, subfolders

HOW_TO_GET = (
    "{} holds no train/<class>/ and val/<class>/ folders of images; name yours with --data DIR"
)


def find(root: Path) -> tuple[list[str], Files, Files]:
    """The class names and the files of train/ and of val/ or test/; nothing where there are no such
    folders.
    """
    test = next(
        (root / split for split in ("val", "test") if (root / split).is_dir()), root / "val"
    )
    classes = subfolders(root / "train") if (root / "train").is_dir() and test.is_dir() else []
    return classes, class_folders(root / "train", classes), class_folders(test, classes)


def load(root: Path, image_size: int | None, download: bool) -> ImageSet:
    """The folder's images at `image_size`; the classes are the names of the folders in train/."""
    classes, train, test = find(root)
    return cached(
        f"image-folder-{image_size or 'native'}",
        root,
        [*train.paths, *test.paths],
        lambda partial: decoded(train, test, image_size, classes, partial),
        HOW_TO_GET.format(root),
    )
