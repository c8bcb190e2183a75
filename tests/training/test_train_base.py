"""Base training goes on where it was stopped, and draws only from images it may learn from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from training.base_data import AnnotatedImage
from training.evaluate_base import model_from_checkpoint
from training.export_base import card

from napari_unet.samples import simulate_nuclei
from training import train_base


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train a tiny network on small crops."""
    monkeypatch.setitem(train_base.NETWORK, "base_channels", 2)
    monkeypatch.setitem(train_base.NETWORK, "depth", 2)


def recipe(steps: int, seed: int = 0) -> train_base.Recipe:
    return train_base.Recipe(steps=steps, batch=2, crop=32, seed=seed)


def annotated(identifier: str, kind: str, group: str, seed: int = 0) -> AnnotatedImage:
    image, labels = simulate_nuclei((96, 96), seed=seed)
    return AnnotatedImage(identifier, kind, group, False, 20.0, image, labels)


def test_a_stopped_run_goes_on_as_if_it_had_not_been_stopped(tmp_path: Path, small: None) -> None:
    items = [annotated("a", "fluo_small", "g1"), annotated("b", "fluo_small", "g2", seed=1)]
    images = train_base.prepare_all(items, 24.0, {"fluo_small": 1.0})

    def begin(name: str) -> train_base.Run:
        folder = tmp_path / name / "nuclei"
        folder.mkdir(parents=True, exist_ok=True)
        return train_base.Run(folder, recipe(6, seed=3), None)

    whole = begin("whole")
    train_base.train(whole, images)

    train_base.train(begin("parts"), images, most=3)
    second = begin("parts")
    second.resume()
    assert second.step == 3
    train_base.train(second, images)

    for key, value in whole.average.items():
        assert torch.equal(value, second.average[key]), key


def test_large_groups_count_with_the_square_root_of_their_size() -> None:
    items = [annotated(str(n), "fluo_small", "big", seed=n) for n in range(4)]
    items.append(annotated("alone", "fluo_small", "small", seed=9))
    images = train_base.prepare_all(items, 24.0, {"fluo_small": 0.6})
    shares = [image.share for image in images]
    assert sum(shares) == pytest.approx(0.6)
    assert sum(shares[:4]) == pytest.approx(2 * shares[4])


def test_a_checkpoint_becomes_a_model_that_knows_its_object_size(
    tmp_path: Path, small: None
) -> None:
    folder = tmp_path / "cells"
    folder.mkdir()
    run = train_base.Run(folder, recipe(1), None)
    images = train_base.prepare_all([annotated("a", "phase", "g")], 32.0, {"phase": 1.0})
    train_base.train(run, images)
    model = model_from_checkpoint(folder)
    assert model.diameter == train_base.DIAMETERS["cells"]
    for key, value in run.average.items():
        assert torch.equal(value, model.net.state_dict()[key]), key


def test_the_card_names_every_image_seed_and_step(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text(json.dumps(["one", "two"]))
    (tmp_path / "curve.csv").write_text("step,seconds,loss\n20,9.5,0.25\n40,19.5,0.125\n")
    text = card("nuclei", tmp_path, {}, recipe(40, seed=7), earlier_steps=100)
    command = "python -m training.train_base nuclei --steps 40 --batch 2 --crop 32 --seed 7"
    for part in (
        command,
        "one, two",
        "seed 7",
        "40 steps",
        "after 100 steps",
        "| 20 | 9.5 | 0.25 |",
    ):
        assert part in text
