"""The panel, Python and the command line train the same model from the same seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch

import napari_unet as nu
from napari_unet.cli import main
from napari_unet.core.model import Model
from napari_unet.core.settings import NetworkSettings, TrainSettings
from napari_unet.core.simulation import simulate_nuclei
from napari_unet.samples import paint_cells
from napari_unet.widgets.train import TrainPanel

SETTINGS = TrainSettings(
    seconds=3600,  # the number of steps decides
    steps=12,
    crop=32,
    batch=2,
    device="cpu",
    seed=7,
    network=NetworkSettings(base_channels=4, depth=2),
)
OPTIONS = ["--seconds", "3600", "--steps", "12", "--crop", "32", "--batch", "2", "--device", "cpu"]
OPTIONS += ["--seed", "7", "--base-channels", "4", "--depth", "2"]


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Sums over several threads are rounded differently; a panel leaves one core to the viewer."""
    monkeypatch.setattr("napari_unet.core.device.cpu_threads", lambda: 1)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def cells() -> tuple[np.ndarray, np.ndarray]:
    image, labels = simulate_nuclei((96, 112), diameter=16, seed=1)
    return image, paint_cells(labels, 6)


@pytest.fixture(scope="module")
def in_python(cells: tuple[np.ndarray, np.ndarray]) -> Model:
    torch.set_num_threads(1)
    return nu.train([cells], SETTINGS, base=None)


def assert_same(model: Model, expected: Model) -> None:
    got, wanted = model.net.state_dict(), expected.net.state_dict()
    assert got.keys() == wanted.keys()
    for name, weights in wanted.items():
        assert torch.equal(got[name], weights), name
    assert (model.instances, model.normalization) == (expected.instances, expected.normalization)
    assert model.diameter == expected.diameter


def assert_calibrated(model: Model) -> None:
    assert (model.pixel_size, model.pixel_unit) == (pytest.approx(0.25), "micrometer")


@pytest.mark.parametrize("how", ["options", "recipe"])
def test_command_line_and_python(
    cells: tuple[np.ndarray, np.ndarray], in_python: Model, tmp_path: Path, how: str
) -> None:
    image, painted = tmp_path / "image.tif", tmp_path / "painted.tif"
    um = {"resolution": (4, 4), "metadata": {"unit": "um"}}
    tifffile.imwrite(image, cells[0].astype(np.float32), imagej=True, **um)
    tifffile.imwrite(painted, cells[1].astype(np.int16))
    (tmp_path / "recipe.json").write_text(SETTINGS.to_json(), encoding="utf-8")
    options = OPTIONS if how == "options" else ["--recipe", str(tmp_path / "recipe.json")]
    output = tmp_path / "m.safetensors"
    words = ["train", str(image), str(painted), "--model", str(output), "--base", "none"]
    assert main([*words, *options]) == 0
    assert_same(nu.load_model(output), in_python)
    assert_calibrated(nu.load_model(output))


def test_panel_and_python(
    cells: tuple[np.ndarray, np.ndarray],
    in_python: Model,
    make_napari_viewer_proxy: Any,
    qtbot: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("napari_unet.widgets.train.models_folder", lambda: tmp_path / "models")
    viewer = make_napari_viewer_proxy()
    panel = TrainPanel(viewer)
    qtbot.addWidget(panel)
    viewer.add_image(cells[0], scale=(0.25, 0.25), units=("um", "um"))
    viewer.add_labels(cells[1].astype(np.int32))
    panel.expert.set_settings(SETTINGS)
    panel.seconds.setValue(3600)
    panel.base.choose("scratch")
    panel.start()
    qtbot.waitUntil(lambda: not panel.running, timeout=120_000)
    assert panel.error == ""
    (file,) = (tmp_path / "models").iterdir()
    assert_same(nu.load_model(file), in_python)
    assert_calibrated(nu.load_model(file))
    panel.session.close()


def test_another_seed_gives_another_model(
    cells: tuple[np.ndarray, np.ndarray], in_python: Model
) -> None:
    other = nu.train([cells], dataclasses.replace(SETTINGS, seed=8), base=None)
    with pytest.raises(AssertionError):
        assert_same(other, in_python)
