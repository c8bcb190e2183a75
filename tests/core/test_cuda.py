"""On a GPU: the results of the CPU, within what the arithmetic allows."""

from __future__ import annotations

import dataclasses
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from napari_unet.core.augmentation import Augmentation
from napari_unet.core.device import choose_device, free_memory
from napari_unet.core.events import Scores
from napari_unet.core.gradient_step import GradientStep
from napari_unet.core.instances import label_instances
from napari_unet.core.metrics import match
from napari_unet.core.model import Model
from napari_unet.core.optimization import Optimization, seeded
from napari_unet.core.prediction import SEAM_TOLERANCE, Predictor, predict
from napari_unet.core.sampling import Batch, CropSampler
from napari_unet.core.settings import AugmentationSettings, Padding, TileSettings
from napari_unet.core.training import iter_training
from napari_unet.core.unet import UNet

from .networks import small_model, small_net, untiled
from .small_training import TINY, able, data_of, finished, finite, largest_difference, nuclei, small

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

CUDA = torch.device("cuda")
#: float32 on another device: other orders of summation.
FLOAT32 = 1e-4
#: The panel and the documentation promise this for half precision.
HALF = 1e-2


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(190, 230)).astype(np.float32)


def test_a_working_gpu_is_chosen_and_named() -> None:
    chosen = choose_device()
    assert chosen.name == "cuda"
    assert torch.cuda.get_device_name() in chosen.reason
    assert free_memory(chosen.device) > 2**30


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_prediction_is_that_of_the_plain_network_on_the_cpu(
    image: np.ndarray, padding: Padding
) -> None:
    model = small_model(small_net(padding, depth=3))
    found = predict(model, image, settings=TileSettings(device="cuda"))
    np.testing.assert_allclose(found, untiled(model, image), atol=FLOAT32)


@pytest.mark.parametrize("tile", [32, 64, 100])
def test_tiles_are_those_of_the_whole(image: np.ndarray, tile: int) -> None:
    model = small_model(small_net(depth=3))
    whole = predict(model, image, settings=TileSettings(device="cuda"))
    tiled = predict(model, image, settings=TileSettings(device="cuda", tile=tile))
    np.testing.assert_allclose(tiled, whole, atol=SEAM_TOLERANCE)


def test_prediction_leaves_the_switches_of_pytorch_alone(image: np.ndarray) -> None:
    before = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.enabled
    predict(small_model(), image, settings=TileSettings(device="cuda"))
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cudnn.enabled) == before


def test_half_precision_is_within_one_percent(image: np.ndarray) -> None:
    model = small_model(small_net(depth=3))
    settings = TileSettings(device="cuda", precision="half")
    found = predict(model, image, settings=settings)
    np.testing.assert_allclose(found, untiled(model, image), atol=HALF)


def test_half_precision_that_overflows_is_computed_again(image: np.ndarray) -> None:
    net = small_net(norm=None)
    with torch.no_grad():
        next(net.convolutions()).weight.mul_(1e6)  # type: ignore[operator, union-attr]
        net.classifier.weight.div_(1e6)
    model = small_model(net)
    settings = TileSettings(device="cuda", precision="half")
    found = predict(model, image, settings=settings)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, untiled(model, image), atol=HALF)


def test_a_tile_too_large_for_the_memory_is_split(image: np.ndarray) -> None:
    """Another program has taken the rest of the memory meanwhile."""
    model = small_model(small_net(depth=3))
    expected = predict(model, image, settings=TileSettings(device="cpu"))
    predictor = Predictor(model, TileSettings(device="cuda"))
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 6e6) / total)
    try:
        found = predict(predictor, image)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    np.testing.assert_allclose(found, expected, atol=FLOAT32)


def test_crops_are_drawn_on_the_gpu_and_repeat_from_the_state_of_the_cpu() -> None:
    on_cpu = data_of(nuclei()).images
    images = [
        dataclasses.replace(
            image,
            **{
                name: getattr(image, name).cuda()
                for name in ("image", "target", "weight", "objects", "pixels")
            },
        )
        for image in on_cpu
    ]
    generator = torch.Generator().manual_seed(3)
    settings = AugmentationSettings(blur=1.0, inversion=0.5)
    sampler = CropSampler(
        images,
        crop=32,
        batch=4,
        augmentation=Augmentation(settings, generator),
        in_channels=1,
    )
    state = sampler.state()
    first = sampler.draw()
    sampler.restore(*state)
    again = sampler.draw()
    assert first.image.is_cuda and first.target.is_cuda and first.weight.is_cuda
    assert torch.equal(first.image, again.image) and torch.equal(first.target, again.target)
    assert not torch.equal(first.image, sampler.draw().image)


def run_on_the_gpu(*, anchored: bool = False, dropout: float = 0.0) -> Optimization:
    with seeded(0, torch.device("cpu")):
        start = Model(UNet(1, 2, **{**TINY.to_dict(), "dropout": dropout}).eval())
    run = Optimization(start, data_of(nuclei()), small(device="cuda"), CUDA, fine_tuning=anchored)
    if anchored:
        run.follow(start, Scores(1.0, 1.0, 1.0, 1.0, 0.0))
    return run


@pytest.mark.parametrize(("anchored", "dropout"), [(False, 0.0), (True, 0.0), (False, 0.3)])
def test_recorded_steps_are_those_of_python(anchored: bool, dropout: float) -> None:
    recorded, plain = (run_on_the_gpu(anchored=anchored, dropout=dropout) for _ in range(2))
    plain._compute._recordable = False
    losses = [[run.advance(k / 20)[0] for k in range(20)] for run in (recorded, plain)]
    assert recorded._compute.recorded and not plain._compute.recorded
    np.testing.assert_allclose(*losses, rtol=0.02)
    for name, value in plain.net.state_dict().items():
        torch.testing.assert_close(recorded.net.state_dict()[name], value, rtol=0.05, atol=5e-3)


def test_a_step_is_recorded_again_when_statistics_are_fixed() -> None:
    run = run_on_the_gpu()
    for _ in range(5):
        run.advance(0.1)
    assert run._compute.recorded
    run.advance(0.6)
    assert not run._compute.recorded
    for _ in range(4):
        run.advance(0.7)
    assert run._compute.recorded


def test_training_goes_on_when_a_step_cannot_be_recorded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A value that Python asks for in the middle of a step ends a recording."""
    run = run_on_the_gpu()
    compute = GradientStep._losses

    def asking(self: GradientStep, batch: Batch) -> torch.Tensor:
        found = compute(self, batch)
        assert found[0].item() >= 0
        return found

    monkeypatch.setattr(GradientStep, "_losses", asking)
    with caplog.at_level(logging.INFO):
        found = [run.advance(k / 20)[0] for k in range(8)]
    assert np.isfinite(found).all() and not run._compute.recorded
    assert "step by step" in caplog.text
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    large = torch.empty(2**28, dtype=torch.uint8, device="cuda")
    held = torch.cuda.memory_reserved()
    del large
    torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved() <= held - 2**28


def test_steps_are_recorded_while_another_thread_predicts(image: np.ndarray) -> None:
    model = small_model(small_net(depth=3))
    expected = predict(model, image, settings=TileSettings(device="cuda"))
    stop = threading.Event()

    def again_and_again() -> int:
        times = 0
        while not stop.is_set():
            predictor = Predictor(model, TileSettings(device="cuda", tile=64))
            np.testing.assert_allclose(predict(predictor, image), expected, atol=SEAM_TOLERANCE)
            times += 1
        return times

    with ThreadPoolExecutor(1) as threads:
        predicting = threads.submit(again_and_again)
        try:
            for _ in range(10):
                run = run_on_the_gpu()
                for _ in range(6):
                    run.advance(0.1)
                assert run._compute.recorded
        finally:
            stop.set()
        assert predicting.result(60) > 0


def test_training_finds_the_nuclei_of_another_image() -> None:
    last = finished(iter_training([nuclei(1)], able(device="cuda", steps=60), None))
    image, labels = nuclei(4)
    found = label_instances(predict(last.model, image), last.model.instances)
    assert match(labels, found, 0.5).tp >= 7
    assert all(not weight.is_cuda for weight in last.model.net.state_dict().values())


def test_a_stopped_run_goes_on_nearly_as_if_it_had_not_been_stopped() -> None:
    """Sums on a GPU are not repeatable to the last bit."""
    settings = small(device="cuda")
    whole = finished(iter_training([nuclei()], settings, None))
    steps = iter(range(100))
    events = iter_training([nuclei()], settings, None, cancelled=lambda: next(steps) >= 5)
    part = finished(events)
    assert part.steps < 12
    rest = finished(iter_training([nuclei()], settings, None, resume=part.state))
    assert rest.steps == 12 and finite(rest.model)
    assert largest_difference(whole.model, rest.model) < 5e-2


def test_a_run_stopped_on_the_gpu_goes_on_on_the_cpu() -> None:
    steps = iter(range(100))
    events = iter_training(
        [nuclei()], small(device="cuda"), None, cancelled=lambda: next(steps) >= 5
    )
    part = finished(events)
    rest = finished(iter_training([nuclei()], small(device="cpu"), None, resume=part.state))
    assert rest.steps == 12 and finite(rest.model)


def test_a_batch_too_large_for_the_memory_is_halved(caplog: pytest.LogCaptureFixture) -> None:
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    settings = small(device="cuda", crop=256, batch=64, steps=2)
    torch.cuda.set_per_process_memory_fraction(150e6 / total)
    try:
        last = finished(iter_training([nuclei()], settings, None))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert last.steps == 2 and finite(last.model)
    assert "Out of memory" in caplog.text
