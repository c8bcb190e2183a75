"""The layers of prediction against PyTorch's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from napari_unet.core import layers
from napari_unet.core.layers import Convolution

SIZES = [(12, 33), (34, 34), (5, 66), (3, 3), (12, 33)]


def map_of(channels: int, size: tuple[int, int]) -> torch.Tensor:
    return torch.rand(1, channels, *size).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("kept", [0, 2**30])
def test_every_size_of_map_gets_the_plain_convolution(
    kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """oneDNN's layout of the weights depends on the size of the map."""
    monkeypatch.setattr(layers, "_PACKED_BYTES", kept)
    torch.manual_seed(0)
    layer = nn.Conv2d(24, 48, 3).requires_grad_(False)
    convolution = Convolution(layer, torch.device("cpu"))
    for size in SIZES:
        x = map_of(24, size)
        torch.testing.assert_close(convolution(x), functional.relu(layer(x)), atol=1e-5, rtol=1e-4)
    if convolution._packed is not None:
        assert len(convolution._packed._held) == (1 if kept == 0 else len(set(SIZES)) + 1)


def test_weights_are_laid_out_for_the_map_they_are_used_on(monkeypatch: pytest.MonkeyPatch) -> None:
    convolution = Convolution(nn.Conv2d(8, 8, 3), torch.device("cpu"))
    if convolution._packed is None:
        pytest.skip("this PyTorch has no packed convolution")
    x = map_of(8, (9, 21))
    packed = convolution._packed.for_map(x)
    assert convolution._packed.for_map(x) is packed
    assert convolution._packed.for_map(map_of(8, (9, 22))) is not packed


def test_without_the_packed_convolution_the_public_one_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(*arguments: object) -> torch.Tensor:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(layers, "_pointwise", missing)
    layer = nn.Conv2d(3, 5, 3).requires_grad_(False)
    convolution = Convolution(layer, torch.device("cpu"))
    assert convolution._packed is None
    x = map_of(3, (9, 9))
    torch.testing.assert_close(convolution(x), functional.relu(layer(x)))
