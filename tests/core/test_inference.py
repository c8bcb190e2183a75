from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet.core.inference import (
    CancelledError,
    InferenceNetwork,
    level_phases,
    plan_axis,
)
from napari_unet.core.planes import Plane
from napari_unet.core.prediction import SEAM_TOLERANCE, predict
from napari_unet.core.settings import Norm, Padding, TileSettings
from napari_unet.core.unet import UNet
from napari_unet.core.winograd import WideConvolution

from .networks import small_model, small_net, untiled


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
def test_reads_exactly_the_receptive_field(padding: Padding, depth: int) -> None:
    net = UNet(base_channels=1, depth=depth, padding=padding)
    phases = level_phases(net)
    spans = [plan_axis(i, i + 1, phases).source for i in range(net.stride)]
    assert max(stop - start for start, stop in spans) == net.receptive_field
    for i, (start, stop) in enumerate(spans):
        assert start < i < stop
        if padding == "same":  # the network's own halo around whole strides covers this
            assert -net.halo <= start < stop <= net.stride + net.halo


@settings(max_examples=30, deadline=None)
@given(st.integers(-50, 50), st.integers(1, 60), st.integers(1, 4), st.data())
def test_plans_grow_with_their_outputs(
    start: int, length: int, depth: int, data: st.DataObject
) -> None:
    phases = tuple(data.draw(st.integers(0, 1)) for _ in range(depth))
    outer = plan_axis(start, start + length, phases)
    first = data.draw(st.integers(start, start + length - 1))
    last = data.draw(st.integers(first + 1, start + length))
    inner = plan_axis(first, last, phases)
    for a, b in zip(
        (outer.source, *outer.contracted, *outer.pooled, *outer.expanded),
        (inner.source, *inner.contracted, *inner.pooled, *inner.expanded),
        strict=True,
    ):
        assert a[0] <= b[0] < b[1] <= a[1]


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("norm", [None, "batch"])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_equals_the_network_itself(padding: Padding, norm: Norm | None, depth: int) -> None:
    model = small_model(small_net(padding, norm, depth=depth))
    image = np.random.default_rng(1).random((21, 34), dtype=np.float32)
    network = InferenceNetwork(model.net)
    scale = model.normalization.measure(Plane(image))
    expected = untiled(model, image)
    for rows, columns in (((0, 21), (0, 34)), ((3, 4), (17, 30))):
        pixels = Plane(image).read_mirrored(*network.needs(*rows), *network.needs(*columns))
        got = network(scale.apply(pixels), rows, columns)
        np.testing.assert_allclose(got, expected[:, slice(*rows), slice(*columns)], atol=2e-6)


def test_probabilities_sum_to_one() -> None:
    network = InferenceNetwork(small_net(n_classes=4))
    side = network.needs(0, 8)
    pixels = np.random.default_rng(0).random((1, side[1] - side[0], side[1] - side[0]))
    got = network(pixels.astype(np.float32), (0, 8), (0, 8))
    assert got.shape == (4, 8, 8)
    assert network.outputs == 4
    np.testing.assert_allclose(got.sum(axis=0), 1, rtol=1e-6)


def test_a_single_logit_becomes_two_classes() -> None:
    net = small_net(n_classes=1)
    network = InferenceNetwork(net)
    size = net.halo
    pixels = np.random.default_rng(0).random((1, 8 + 2 * size, 8 + 2 * size)).astype(np.float32)
    first, last = network.needs(0, 8)
    got = network(pixels[:, size + first : size + last, size + first : size + last], (0, 8), (0, 8))
    with torch.no_grad():
        truth = torch.sigmoid(net(torch.from_numpy(pixels)[None]))[0, 0, size:-size, size:-size]
    assert network.outputs == 2
    np.testing.assert_allclose(got[1], truth, atol=1e-6)
    np.testing.assert_allclose(got[0], 1 - truth, atol=1e-6)


def test_the_network_given_is_left_alone() -> None:
    net = small_net()
    net.train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    network = InferenceNetwork(net)
    first, last = network.needs(0, 4)
    network(np.ones((1, last - first, last - first), np.float32), (0, 4), (0, 4))
    assert net.training
    assert all(parameter.requires_grad for parameter in net.parameters())
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])


def test_stops_between_layers() -> None:
    network = InferenceNetwork(small_net())
    first, last = network.needs(0, 4)
    asked = []

    def cancelled() -> bool:
        asked.append(True)
        return len(asked) == 3

    with pytest.raises(CancelledError):
        network(np.ones((1, last - first, last - first), np.float32), (0, 4), (0, 4), cancelled)
    assert len(asked) == 3


@pytest.mark.parametrize("tile", [32, 48, None])
def test_wide_layers_are_within_the_seam_tolerance(
    tile: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Layers with many channels are computed in another way; no tile may show it."""
    used = []
    monkeypatch.setattr("napari_unet.core.winograd._FEWEST_BLOCKS", 1)
    compute = WideConvolution.__call__
    monkeypatch.setattr(
        WideConvolution, "__call__", lambda self, x: (used.append(x.shape), compute(self, x))[1]
    )
    torch.manual_seed(0)
    net = UNet(1, 2, base_channels=64, depth=2, padding="same", norm="batch", dropout=0.0)
    model = small_model(net.eval())
    image = np.random.default_rng(0).normal(size=(70, 90)).astype(np.float32)
    found = predict(model, image, settings=TileSettings(device="cpu", tile=tile))
    assert used
    np.testing.assert_allclose(found, untiled(model, image), atol=SEAM_TOLERANCE)


def test_half_precision_is_for_cuda_only() -> None:
    assert not InferenceNetwork(small_net(), "cpu", half=True).half
