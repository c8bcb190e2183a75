"""Object size: measured on labels, estimated on images by the network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy import ndimage

from napari_unet.core import diameter as diameter_module
from napari_unet.core.device import Device
from napari_unet.core.diameter import (
    CANDIDATES,
    SizeEvidence,
    estimate_diameter,
    median_diameter,
    object_diameters,
    size_evidence,
)
from napari_unet.core.model import Model
from napari_unet.core.planes import as_plane
from napari_unet.core.settings import TileSettings
from napari_unet.core.simulation import simulate_nuclei
from napari_unet.core.unet import UNet

CPU = TileSettings(device="cpu")


def disc_image(
    diameter: float, count: int = 6, shape: tuple[int, int] = (400, 400)
) -> npt.NDArray[np.int32]:
    """Discs on a regular grid, far from the border and from each other."""
    labels = np.zeros(shape, np.int32)
    rows, columns = np.indices(shape)
    places = [
        (y, x)
        for y in np.arange(1.2 * diameter, shape[0] - diameter, 1.9 * diameter)
        for x in np.arange(1.2 * diameter, shape[1] - diameter, 1.9 * diameter)
    ]
    for number, (y, x) in enumerate(places[:count], start=1):
        labels[(rows - y) ** 2 + (columns - x) ** 2 < diameter**2 / 4] = number
    return labels


# --- measured ----------------------------------------------------------------------------------


@pytest.mark.parametrize("diameter", [8, 15, 40.0, 91])
def test_the_diameter_of_drawn_discs_is_found(diameter: float) -> None:
    labels = disc_image(diameter)
    assert median_diameter(labels) == pytest.approx(diameter, rel=0.03)
    assert len(object_diameters(labels)) == labels.max()


def test_the_diameter_is_that_of_a_circle_of_equal_area() -> None:
    labels = np.zeros((30, 30), np.int32)
    labels[5:15, 5:25] = 4
    assert median_diameter(labels) == pytest.approx(2 * np.sqrt(200 / np.pi), abs=0)


def test_it_is_the_median_over_objects_not_over_pixels() -> None:
    labels = np.zeros((100, 100), np.int64)
    labels[2:5, 2:5], labels[10:14, 10:14], labels[20:80, 20:80] = 1, 2**40, 3
    assert median_diameter(labels) == pytest.approx(2 * np.sqrt(16 / np.pi))


def test_objects_cut_by_the_border_count_only_when_there_are_no_others() -> None:
    """Complaint 8: half a cell says little about the size of a cell."""
    labels = np.zeros((40, 40), np.int32)
    for number, window in enumerate(
        [np.s_[:3, 10:20], np.s_[-3:, 10:20], np.s_[10:20, :3], np.s_[10:20, -3:]], start=1
    ):
        labels[window] = number
    assert object_diameters(labels) == pytest.approx([2 * np.sqrt(30 / np.pi)] * 4)
    labels[15:25, 15:25] = 9
    assert object_diameters(labels) == pytest.approx([2 * np.sqrt(100 / np.pi)])


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.uint32, np.int64])
def test_only_objects_have_a_diameter(dtype: Any) -> None:
    labels = np.zeros((20, 20), dtype)
    assert median_diameter(labels) is None
    if np.dtype(dtype).kind == "i":
        labels[:5] = -1
        assert median_diameter(labels) is None
    labels[8:12, 8:12] = 3
    assert median_diameter(labels) == pytest.approx(2 * np.sqrt(16 / np.pi))


# --- estimated ---------------------------------------------------------------------------------


def image_of(labels: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
    """Bright discs with soft edges and a little noise."""
    noise = np.random.default_rng(0).normal(0, 0.01, labels.shape)
    return (ndimage.gaussian_filter((labels > 0).astype(float), 1) + noise).astype(np.float32)


@pytest.fixture
def sized_model(bright_model: Model) -> Model:
    """Finds whatever is bright, and says that it was trained on objects of 24 px."""
    return replace(bright_model, diameter=24.0)


@pytest.mark.parametrize("diameter", [10, 16, 24, 40, 80])
def test_what_is_measured_is_near_the_truth_at_any_size(
    sized_model: Model, diameter: float
) -> None:
    plane = as_plane(image_of(disc_image(diameter, count=99)))
    best = max(size_evidence(sized_model, plane, settings=CPU), key=lambda e: e.score)
    assert best.candidate == pytest.approx(diameter, rel=0.35)
    assert best.measured == pytest.approx(diameter, rel=0.2)


def test_the_estimate_follows_the_scale_of_the_image(sized_model: Model) -> None:
    found = [
        estimate_diameter(
            sized_model,
            as_plane(image_of(disc_image(16 * zoom, count=99, shape=(200 * zoom, 200 * zoom)))),
            settings=CPU,
        )
        for zoom in (1, 2, 4)
    ]
    first, second, third = found
    assert first is not None and second is not None and third is not None
    assert second / first == pytest.approx(2, rel=0.12)
    assert third / first == pytest.approx(4, rel=0.12)


def test_a_valid_network_looks_at_the_same_window(sized_model: Model) -> None:
    """Its answer is the middle of what it sees, which must not move the window off the image."""
    config = {**sized_model.net.config(), "padding": "valid"}
    net = UNet(**config)
    net.load_state_dict(sized_model.net.state_dict())
    valid = replace(sized_model, net=net.eval())
    plane = as_plane(image_of(disc_image(20, count=4, shape=(100, 100))))
    same = list(size_evidence(sized_model, plane, settings=CPU))
    for evidence, expected in zip(size_evidence(valid, plane, settings=CPU), same, strict=True):
        assert evidence.candidate == expected.candidate
        assert evidence.score == pytest.approx(expected.score, abs=0.02)


def test_two_estimates_on_a_gpu_do_not_move_each_others_network(
    sized_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The panel measures the cells with the model that a segmentation then begins with."""
    gpu = torch.device("cpu", 0)  # another device than "cpu" by its name only

    class Placed(UNet):
        place = "cpu"

        def to(self, *args: Any, **kwargs: Any) -> Any:
            self.place = str(args[0])
            return self

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert self.place == str(gpu), "the network is not where its input is"
            return super().forward(x)

    net = Placed(**sized_model.net.config())
    net.load_state_dict(sized_model.net.state_dict())
    model = replace(sized_model, net=net.eval())
    monkeypatch.setattr(diameter_module, "choose_device", lambda _: Device(gpu, "cuda", ""))
    plane = as_plane(disc_image(24).astype(np.float32))
    first, second = size_evidence(model, plane), size_evidence(model, plane)
    next(first)
    next(second)
    first.close()
    assert len(list(second)) == len(CANDIDATES) - 1
    assert net.place == "cpu"


def test_every_candidate_is_tried_and_scored(sized_model: Model) -> None:
    plane = as_plane(image_of(disc_image(28, count=99)))
    found = list(size_evidence(sized_model, plane, settings=CPU))
    assert [evidence.candidate for evidence in found] == list(CANDIDATES)
    assert all(0 <= evidence.score <= 1 for evidence in found)
    best = max(found, key=lambda evidence: evidence.score)
    assert best.candidate == pytest.approx(28, rel=0.3)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        # 10 px objects of a real image, and one blob that a single candidate sees.
        ([0.031, 0.026, 0.033, 0.006, 0.001, 0, 0, 0, 0.001, 0.077], CANDIDATES[2]),
        # A large object: its neighbour sees it, too.
        ([0.031, 0.026, 0.033, 0.006, 0.001, 0, 0, 0, 0.05, 0.077], CANDIDATES[9]),
        # Only one candidate finds anything at all.
        ([0, 0, 0, 0, 0, 0.02, 0, 0, 0, 0], CANDIDATES[5]),
    ],
)
def test_what_one_candidate_sees_alone_is_a_coincidence(
    sized_model: Model, monkeypatch: pytest.MonkeyPatch, scores: list[float], expected: float
) -> None:
    evidence = [
        SizeEvidence(candidate, score, candidate if score else None)
        for candidate, score in zip(CANDIDATES, scores, strict=True)
    ]
    monkeypatch.setattr(
        "napari_unet.core.diameter.size_evidence", lambda *_args, **_options: iter(evidence)
    )
    assert estimate_diameter(sized_model, as_plane(np.zeros((9, 9)))) == expected


def test_gray_is_shown_to_a_network_of_colours(sized_model: Model) -> None:
    """The shipped models take both."""
    net = UNet(**{**sized_model.net.config(), "in_channels": 3})
    weights = sized_model.net.state_dict()
    first = next(name for name in weights if weights[name].ndim == 4)
    net.load_state_dict({**weights, first: weights[first].expand(-1, 3, -1, -1) / 3})
    image = as_plane(image_of(disc_image(24)))
    colours = replace(sized_model, net=net.eval(), channels="gray_or_rgb")
    gray = estimate_diameter(sized_model, image)
    assert gray is not None
    assert estimate_diameter(colours, image) == pytest.approx(gray, rel=1e-3)


def test_an_image_without_objects_has_no_diameter(sized_model: Model) -> None:
    image = np.zeros((100, 100), np.float32)
    assert estimate_diameter(sized_model, as_plane(image), settings=CPU) is None


@pytest.mark.parametrize("changes", [{"diameter": None}, {"task": "classes"}])
def test_models_that_do_not_match_sizes_estimate_none(
    sized_model: Model, changes: dict[str, Any]
) -> None:
    plane = as_plane(image_of(disc_image(20)))
    assert estimate_diameter(replace(sized_model, **changes), plane, settings=CPU) is None


@pytest.mark.parametrize("shape", [(1, 1), (3, 50), (40, 1)])
def test_tiny_images_are_taken(sized_model: Model, shape: tuple[int, int]) -> None:
    """Complaint 24."""
    image = np.random.default_rng(0).random(shape)
    found = estimate_diameter(sized_model, as_plane(image), settings=CPU)
    assert found is None or found > 0


def test_the_best_so_far_is_used_when_it_is_cancelled(sized_model: Model) -> None:
    plane = as_plane(image_of(disc_image(10, count=99)))
    asked: list[int] = []

    def after_three() -> bool:
        asked.append(1)
        return len(asked) > 3

    found = list(size_evidence(sized_model, plane, settings=CPU, cancelled=after_three))
    assert [evidence.candidate for evidence in found] == list(CANDIDATES[:3])
    asked.clear()
    assert estimate_diameter(sized_model, plane, settings=CPU, cancelled=after_three) is not None
    assert estimate_diameter(sized_model, plane, settings=CPU, cancelled=lambda: True) is None


def test_only_the_middle_of_a_huge_image_is_read(sized_model: Model) -> None:
    class Huge:
        shape, ndim, dtype = (50_000, 40_000), 2, np.dtype(np.float32)
        largest = 0

        def __getitem__(self, key: tuple[slice, slice]) -> npt.NDArray[np.float32]:
            sides = [part.stop - part.start for part in key]
            Huge.largest = max(Huge.largest, sides[0] * sides[1])
            return np.random.default_rng(0).random(sides, dtype=np.float32)

    scale = sized_model.normalization.measure(as_plane(np.eye(9)))
    first = next(iter(size_evidence(sized_model, as_plane(Huge()), settings=CPU, scale=scale)))
    assert first.candidate == CANDIDATES[0]
    assert Huge.largest <= 2048**2


def test_a_network_with_a_single_logit_estimates_like_its_twin_with_two() -> None:
    from napari_unet.core.model_file import load_model

    model = load_model("nuclei")
    single = UNet(**{**model.net.config(), "n_classes": 1}).eval()
    weights = dict(model.net.state_dict())
    for name in ("classifier.weight", "classifier.bias"):
        weights[name] = weights[name][1:] - weights[name][:1]
    single.load_state_dict(weights)
    image, _ = simulate_nuclei((160, 160), 12, diameter=22, seed=3)
    twin = replace(model, net=single, class_names=("object",))
    expected = estimate_diameter(model, as_plane(image), settings=CPU)
    assert estimate_diameter(twin, as_plane(image), settings=CPU) == pytest.approx(
        expected, rel=1e-3
    )
