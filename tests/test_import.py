"""Importing the package and asking for help cost next to nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import napari_unet

HEAVY = ("torch", "numpy", "scipy", "skimage", "napari", "qtpy", "PyQt6", "superqt", "magicgui")


def run_python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    ).stdout


def seconds(code: str) -> float:
    """Return the least processor time of a few fresh interpreters.

    Processor time and not wall time, so that other programs on the machine do not count.
    """
    times = []
    for _ in range(5):
        before = os.times()
        run_python(code)
        after = os.times()
        user = after.children_user - before.children_user
        times.append(user + after.children_system - before.children_system)
    return min(times)


def test_import_loads_nothing_heavy():
    loaded = run_python("import napari_unet, sys; print(*sys.modules)").split()
    assert not set(HEAVY) & set(loaded)


@pytest.mark.timed
@pytest.mark.skipif(os.name == "nt", reason="Windows does not count the time of children")
def test_import_takes_under_50_ms():
    assert seconds("import napari_unet") - seconds("pass") < 0.05


@pytest.mark.timed
@pytest.mark.parametrize("words", [["--help"], ["train", "--help-all"], ["--version"]])
def test_help_is_instant_and_loads_nothing_heavy(words):
    code = (
        "import sys, napari_unet.cli as cli\n"
        f"status = cli.main({words!r})\n"
        "sys.exit(bool(status) or bool({'torch', 'numpy', 'napari'} & set(sys.modules)))"
    )
    assert seconds(code) < 0.5


def test_every_public_name_is_there():
    for name in napari_unet.__all__:
        assert getattr(napari_unet, name).__name__ == name
    assert set(napari_unet.__all__) <= set(dir(napari_unet))


def test_the_contract_of_the_public_api():
    wanted = {
        "UNet",
        "average_precision",
        "iter_tiles",
        "iter_training",
        "label_instances",
        "load_model",
        "predict",
        "save_model",
        "segment",
        "train",
        "training_target",
        "weight_map",
    }
    assert wanted <= set(napari_unet.__all__)


def test_type_checkers_see_the_lazy_names():
    """The names under TYPE_CHECKING, the table and ``__all__`` agree."""
    source = Path(napari_unet.__file__).read_text(encoding="utf-8")
    head = source.split("_MODULE_OF")[0]
    for name in napari_unet.__all__:
        assert name in head
    assert sorted(napari_unet._MODULE_OF) == sorted(napari_unet.__all__)


def test_unknown_name():
    with pytest.raises(AttributeError, match="no attribute 'segmentation'"):
        _ = napari_unet.segmentation


def test_version():
    assert napari_unet.__version__.count(".") >= 2
