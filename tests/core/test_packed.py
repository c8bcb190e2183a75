"""oneDNN's convolution against PyTorch's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.nn import functional

from napari_unet.core import packed
from napari_unet.core.layers import Convolution
from napari_unet.core.packed import PackedWeights, is_available

SIZES = [(12, 33), (34, 34), (5, 66), (3, 3), (12, 33)]
needs_it = pytest.mark.skipif(not is_available(), reason="no packed convolution in this PyTorch")


def map_of(channels: int, size: tuple[int, int]) -> torch.Tensor:
    return torch.rand(1, channels, *size).contiguous(memory_format=torch.channels_last)


@needs_it
@pytest.mark.parametrize("kept", [0, 2**30])
def test_every_size_of_map_gets_the_plain_convolution(
    kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed, "_KEPT_BYTES", kept)
    torch.manual_seed(0)
    weight, bias = torch.randn(48, 24, 3, 3), torch.randn(48)
    weights = PackedWeights(weight)
    for size in SIZES:
        x = map_of(24, size)
        plain = functional.conv2d(x, weight, bias)
        torch.testing.assert_close(weights.convolve(x, bias), plain, atol=1e-4, rtol=1e-4)
        found = weights.convolve(x, bias, relu=True)
        torch.testing.assert_close(found, plain.clamp(min=0), atol=1e-4, rtol=1e-4)
    assert len(weights._layouts) == (1 if kept == 0 else len(set(SIZES)))


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@needs_it
@pytest.mark.usefixtures("threads")
def test_there_is_a_layout_for_each_size_and_number_of_threads() -> None:
    """With that of another size or number a layer of 512 channels takes up to 15 times as long."""
    weights = PackedWeights(torch.randn(8, 8, 3, 3))
    layouts = []
    for count, size in [(1, (9, 21)), (1, (9, 21)), (1, (9, 22)), (2, (9, 21))]:
        torch.set_num_threads(count)
        weights.convolve(map_of(8, size))
        layouts.append(len(weights._layouts))
    assert layouts == [1, 1, 2, 3]


@pytest.mark.parametrize("wrong", [False, True])
def test_without_the_operators_the_public_convolution_is_used(
    wrong: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(x: torch.Tensor, *arguments: object, **options: object) -> torch.Tensor:
        if wrong:
            return torch.zeros(1, 8, x.shape[2] - 2, x.shape[3] - 2)
        raise RuntimeError("no such operator")

    monkeypatch.setattr(packed, "convolve", broken)
    available = is_available.__wrapped__()
    assert not available
    monkeypatch.setattr("napari_unet.core.layers.is_available", lambda: available)
    layer = nn.Conv2d(3, 5, 3).requires_grad_(False)
    x = map_of(3, (9, 9))
    found = Convolution(layer, torch.device("cpu"))(x)
    torch.testing.assert_close(found, functional.relu(layer(x)))
