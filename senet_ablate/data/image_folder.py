"""Any images in ImageNet's layout: train/<class>/ and val/<class>/ (or test/<class>/), of any size."""

from pathlib import Path

from senet_ablate.data.images import ImageSet, cached, class_folders, decoded, subfolders


def load(root: Path, image_size: int | None, download: bool) -> ImageSet:
    """The folder's images at `image_size`; the classes are the names of the folders in train/."""
    test = next((root / split for split in ("val", "test") if (root / split).is_dir()), root / "val")
    classes = subfolders(root / "train") if (root / "train").is_dir() and test.is_dir() else []
    files = [class_folders(folder, classes) for folder in (root / "train", test)]
    return cached(
        f"image-folder-{image_size or 'native'}",
        root,
        [path for split in files for path in split.paths],
        lambda partial: decoded(files[0], files[1], image_size, classes, partial),
        f"{root} holds no train/<class>/ and val/<class>/ folders of images; name yours with --data DIR",
    )
