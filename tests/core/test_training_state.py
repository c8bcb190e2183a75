"""Stopped runs on disk."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from napari_unet.core.errors import ModelFileError, OutputError, SettingsError
from napari_unet.core.events import TrainingStep
from napari_unet.core.model_file import save_model
from napari_unet.core.training import iter_training
from napari_unet.core.training_state import TrainingState
from napari_unet.core.unet import UNet

from .small_training import TINY, finished, nuclei, small


@pytest.fixture(scope="module")
def state() -> TrainingState:
    return finished(iter_training([nuclei()], small(steps=3))).state


def test_a_file_gives_back_what_was_saved(state: TrainingState, tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    state.save(path)
    loaded = TrainingState.load(path)
    for field in dataclasses.fields(state):
        saved, found = getattr(state, field.name), getattr(loaded, field.name)
        if isinstance(saved, dict):
            assert saved.keys() == found.keys() and saved
            for name, value in saved.items():
                assert torch.equal(value, found[name]) and value.dtype == found[name].dtype
        elif isinstance(saved, torch.Tensor):
            assert torch.equal(saved, found)
        else:
            assert saved == found
    assert loaded.step == 3 and loaded.settings == small(steps=3)


def test_a_run_without_validation_has_no_best_quality(state: TrainingState, tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    dataclasses.replace(state, best_quality=None).save(path)
    assert TrainingState.load(path).best_quality is None


def test_files_that_are_no_state_are_refused(state: TrainingState, tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    state.save(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelFileError):
        TrainingState.load(path)
    with pytest.raises(ModelFileError):
        TrainingState.load(tmp_path / "missing.safetensors")
    other = tmp_path / "model.safetensors"
    save_model(finished(iter_training([nuclei()], small(steps=1))).model, other)
    with pytest.raises(ModelFileError):
        TrainingState.load(other)


@pytest.mark.usefixtures("small_disk")
def test_a_full_disk_keeps_the_earlier_file(state: TrainingState, tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    path.write_bytes(b"earlier")
    with pytest.raises(OutputError):
        state.save(path)
    assert path.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_only_the_same_run_can_be_resumed(state: TrainingState) -> None:
    net = UNet(1, 2, **TINY.to_dict())
    state.check_resumable(small(steps=50), net)
    with pytest.raises(SettingsError, match="another network"):
        state.check_resumable(small(), UNet(3, 2, **TINY.to_dict()))
    with pytest.raises(SettingsError, match="seed 0"):
        state.check_resumable(small(seed=1), net)
    with pytest.raises(SettingsError, match="optimiser adamw"):
        state.check_resumable(small(optimizer="sgd"), net)


def test_a_resumed_run_counts_on(state: TrainingState) -> None:
    events = list(iter_training([nuclei()], small(steps=5), resume=state))
    assert events[0].first_step == 3
    assert [e.step for e in events if isinstance(e, TrainingStep)] == [4, 5]
