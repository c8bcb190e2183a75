"""Which files a command reads and writes, checked before any long work."""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from napari_unet.core.atomic import output_error
from napari_unet.core.errors import InputError, OutputError
from napari_unet.io.images import TIFF_SUFFIXES, file_name_stem
from napari_unet.io.ome_zarr import is_zarr

#: What a folder is searched for.
IMAGE_SUFFIXES = (*TIFF_SUFFIXES, ".png", ".jpg", ".jpeg", ".bmp", ".npy", ".zarr")
MASKS = "_masks"
#: How the names of label images end that lie beside images.
_RESULTS = (MASKS, "_annotation")
_PATTERN_CHARACTERS = frozenset("*?[")


def find_images(inputs: Sequence[str]) -> list[Path]:
    """Return the images that files, folders and patterns stand for, each once.

    Raises
    ------
    InputError
        If a file does not exist, or a folder or pattern stands for no image.
    """
    found: dict[str, Path] = {}
    for text in inputs:
        for path in _expand(text):
            found.setdefault(os.path.abspath(path), path)  # noqa: PTH100 (links stay links)
    return list(found.values())


def _expand(text: str) -> list[Path]:
    path = Path(text)
    if path.is_dir() and not is_zarr(path):
        images = images_in(path)
        if not images:
            raise InputError(
                f"There is no image in the folder {text!r} (files that end in "
                f"{', '.join(IMAGE_SUFFIXES)})."
            )
        return images
    if path.exists():
        return [path]
    # A shell on Windows does not resolve patterns; elsewhere they may have been quoted.
    if _PATTERN_CHARACTERS & set(text):
        matches = sorted(Path(match) for match in glob.glob(text, recursive=True))  # noqa: PTH207
        images = [match for match in matches if not _is_result(match)]
        if not images:
            raise InputError(f"No file matches {text!r}; check the pattern.")
        return images
    raise InputError(f"There is no file {text!r}; check the path.")


def images_in(folder: Path) -> list[Path]:
    """Return the images of a folder in order of their names, without masks and annotations."""
    return [path for path in labels_in(folder) if not _is_result(path)]


def labels_in(folder: Path) -> list[Path]:
    """Return all images of a folder, masks included, in order of their names."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    )


def _is_result(path: Path) -> bool:
    return file_name_stem(path).endswith(_RESULTS)


def without_results(images: Sequence[Path]) -> list[Path]:
    """Leave out the masks and annotations of other images that are named beside them.

    A folder or pattern holds none, but shells resolve ``*.tif`` before it arrives here.
    """
    plain = {file_name_stem(path) for path in images}
    return [path for path in images if not _is_result_of(path, plain)]


def _is_result_of(path: Path, images: Collection[str]) -> bool:
    stem = file_name_stem(path)
    return any(stem.endswith(end) and stem.removesuffix(end) in images for end in _RESULTS)


def result_stems(images: Iterable[Path]) -> list[str]:
    """Return what the results of each image are called, without their endings.

    Raises
    ------
    InputError
        If two images would write the same files.
    """
    planned: dict[str, Path] = {}
    for image in images:
        stem = file_name_stem(image)
        if stem in planned:
            raise InputError(
                f"The results of {str(planned[stem])!r} and {str(image)!r} would have the same "
                "name; segment them into different folders."
            )
        planned[stem] = image
    return list(planned)


def keep_inputs(inputs: Iterable[Path], results: Iterable[Path]) -> None:
    """Check that no result would replace one of the inputs.

    Raises
    ------
    InputError
        If one would.
    """
    sources = {os.path.realpath(path) for path in inputs}
    for result in results:
        if os.path.realpath(result) in sources:
            raise InputError(
                f"The result {str(result)!r} would replace an input; choose another output folder."
            )


def existing_file(text: str) -> Path:
    """Return the path of a file to read.

    Raises
    ------
    InputError
        If there is no such file.
    """
    path = Path(text)
    if not path.exists():
        raise InputError(f"There is no file {text!r}; check the path.")
    return path


@contextlib.contextmanager
def output_folder(text: str) -> Iterator[Path]:
    """Create the folder if needed and try to write into it; leave no new empty ones behind.

    Raises
    ------
    OutputError
        If it cannot be created or written to.
    """
    folder = Path(text)
    new = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise OutputError(f"{text!r} is not a folder; choose another one.") from error
    except OSError as error:
        raise output_error(folder, error) from error
    try:
        _try_writing(folder)
        yield folder
    finally:
        with contextlib.suppress(OSError):  # it is not empty: there are results
            for each in new:
                each.rmdir()


def writable_file(text: str, inputs: Iterable[Path] = (), *, suffixes: Sequence[str] = ()) -> Path:
    """Check that a result file can be written, without touching what is there.

    Raises
    ------
    InputError
        If it is one of the inputs, or ends in none of ``suffixes`` (of any, when there are none):
        an image is not replaced by a model because two arguments were confused.
    OutputError
        If its folder is missing or cannot be written to.
    """
    path = Path(text)
    for source in inputs:
        if path.exists() and source.exists() and path.samefile(source):
            raise InputError(f"{text!r} is an input; choose another file for the result.")
    if path.is_dir():
        raise OutputError(f"{text!r} is a folder; add a file name.")
    if suffixes and path.suffix.lower() not in suffixes:
        raise InputError(
            f"The result {text!r} must have a name that ends in {suffixes[0]}, for example "
            f"{path.stem + suffixes[0]!r}."
        )
    if not path.parent.is_dir():
        raise OutputError(
            f"The folder {str(path.parent)!r} does not exist; create it or choose another one."
        )
    _try_writing(path.parent)
    return path


def _try_writing(folder: Path) -> None:
    """Write and remove a small file: permissions alone do not tell (root, quota, network)."""
    probe = folder / f".napari-unet-{os.getpid()}.part"
    try:
        probe.write_bytes(b"0" * 4096)
    except OSError as error:
        raise OutputError(
            f"Nothing can be written into the folder {str(folder)!r} "
            f"({(error.strerror or str(error)).lower()}); choose another one."
        ) from error
    finally:
        with contextlib.suppress(OSError):  # a read-only disk refuses this, too
            probe.unlink(missing_ok=True)
