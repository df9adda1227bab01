"""Which files at a path are images of which class, for training and for testing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nasfast.data.archive import ARCHIVES, is_archive, open_archive
from nasfast.data.image_file import SUFFIXES, ImageFile
from nasfast.data.label_file import TABLES, is_label_file, named_files, read_labels
from nasfast.data.tree import TEST, TRAIN, DiskFolder, Entry, Folder, Layout, LeftOut, is_regular
from nasfast.errors import DataError
from nasfast.utils.shown import shown
from nasfast.utils.suggest import did_you_mean

_OTHER_TASKS = ({"images", "labels"}, {"images", "masks"}, {"images", "annotations"}, {"imgs", "masks"})
"""Folders of data sets that label parts of images, in small letters."""


def find_images(root: Path, skip_bad: bool = False) -> Layout:
    """Look for images of classes at a path: a folder, an archive of one, or a table of files and labels.

    A folder holds a train and a test set of one folder per class, or the classes themselves.

    Args:
        skip_bad: Leave out any number of files that a table names and that are not there.

    Raises:
        DataError: It is something else.
    """
    if not root.exists():
        close = did_you_mean(root.name, ("digits", "cifar10"))
        raise DataError(
            f"data folder {shown(root)} does not exist; expected digits, cifar10 or the path of an image folder, an "
            f"archive of one or a table of labels{close}"
        )
    if root.is_dir():
        return _layout(DiskFolder(root))
    if is_regular(root) and is_archive(root):
        folder, notes = _unwrapped(root)
        layout = _layout(folder)
        layout.notes[:0] = notes
        return layout
    if is_regular(root) and is_label_file(root):
        return read_labels(root, skip_bad)
    raise DataError(
        f"{shown(root)} is a file; expected a folder that holds one folder of images per class, an archive of one "
        f"({', '.join(ARCHIVES)}) or a table of files and labels ({', '.join(TABLES)})"
    )


def named_images(path: Path) -> list[ImageFile] | None:
    """The images of a folder with all that is below it, of an archive, or of a table; None where it is no such thing.

    Hidden ones and those of systems are none. Those of folders and archives are sorted.

    Raises:
        DataError: The archive or the table cannot be read.
    """
    if path.is_dir():
        return DiskFolder(path).images(LeftOut())
    if is_regular(path) and is_archive(path):
        return open_archive(path).images(LeftOut())
    return named_files(path) if is_regular(path) and is_label_file(path) else None


def _unwrapped(path: Path) -> tuple[Folder, list[str]]:
    """The folder of an archive that holds more than one folder of folders, and what is said of those around it."""
    folder: Folder = open_archive(path)
    depth = 0
    while not folder.has_loose_images() and len(folder.folders()) == 1:
        (inner,) = folder.folders().values()
        if not inner.folders():
            break
        folder, depth = inner, depth + 1
    return folder, [f"the images of {shown(path)} are those in its folder {shown(folder.name)}"] if depth else []


def _layout(root: Folder) -> Layout:
    folders, left = root.folders(), LeftOut()
    halves = {"train": _named(folders, TRAIN), "test": _named(folders, TEST)}
    if not halves["train"]:
        if halves["test"]:
            raise DataError(
                f"{shown(halves['test'][0])} looks like a test set, but {shown(root)} holds no folder named train "
                "beside it"
            )
        if folders and all(name.lower() in TRAIN + TEST for name in folders):
            raise DataError(
                f"{shown(root)} holds {' and '.join(folders)} without class folders in them; expected one folder "
                "of images per class in each"
            )
        train, classes = _scan(root, left)
        return Layout(classes, train, None, left.notes())
    train, classes = _scan(_only(root, halves["train"]), left)
    if not halves["test"]:
        return Layout(classes, train, None, left.notes() + _unused(folders, [halves["train"][0]]))
    first = halves["test"][0].name.lower()
    test_root = _only(root, [folder for folder in halves["test"] if folder.name.lower() == first])
    test, test_classes = _scan(test_root, left)
    for name in sorted(set(classes) ^ set(test_classes)):
        here, there = (halves["train"][0], test_root) if name in classes else (test_root, halves["train"][0])
        raise DataError(
            f"class {shown(name)} is in {shown(here)} but not in {shown(there)}; "
            "expected the same class folders in both"
        )
    return Layout(classes, train, test, left.notes() + _unused(folders, [halves["train"][0], test_root]))


def _named(folders: Mapping[str, Folder], names: tuple[str, ...]) -> list[Folder]:
    """Folders of these names in any case, in the order of the names; one without folders in it may be a class."""
    found = [folder for name, folder in folders.items() if name.lower() in names and folder.folders()]
    return sorted(found, key=lambda folder: names.index(folder.name.lower()))


def _only(root: Folder, folders: list[Folder]) -> Folder:
    if len(folders) > 1:
        raise DataError(f"{shown(root)} holds both {folders[0].name} and {folders[1].name}; expected one of them")
    return folders[0]


def _unused(folders: Mapping[str, Folder], used: list[Folder]) -> list[str]:
    others = sorted(name for name, folder in folders.items() if folder not in used)
    if not others:
        return []
    return [f"{', '.join(folder.name for folder in used)} are read; left out beside them: {', '.join(others[:5])}"]


def _scan(root: Folder, left: LeftOut) -> tuple[list[Entry], list[str]]:
    """All images below the class folders of ``root``, sorted, with the classes numbered by sorted name."""
    folders = root.folders()
    if not folders:
        found = "images but no class folder" if root.has_loose_images() else "no images"
        what = "data folder " if isinstance(root, DiskFolder) else ""
        raise DataError(f"{what}{shown(root)} holds {found}; expected one folder of images per class")
    if {name.lower() for name in folders} in _OTHER_TASKS:
        raise DataError(
            f"{shown(root)} holds {' and '.join(folders)}, as data sets of parts of images do; expected one folder "
            "of images per class"
        )
    entries: list[Entry] = []
    for label, folder in enumerate(folders.values()):
        folder.check()
        files = folder.images(left)
        if not files:
            raise DataError(
                f"class folder {shown(folder)} holds no images; expected files like {', '.join(SUFFIXES[:4])}"
            )
        entries += [Entry(path, label) for path in files]
    if len(folders) < 2:
        name = next(iter(folders))
        raise DataError(f"{shown(root)} holds one class ({shown(name)}); expected at least two class folders")
    return entries, list(folders)
