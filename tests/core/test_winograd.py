"""The fast convolution of wide layers against the plain one in double precision."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from napari_unet.core import winograd
from napari_unet.core.packed import is_available
from napari_unet.core.winograd import Scratch, WideConvolution, best_grid, is_faster

pytestmark = pytest.mark.skipif(not is_available(), reason="no packed convolution in this PyTorch")


def plain(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return functional.relu(functional.conv2d(x.double(), weight.double(), bias.double()))


def random_map(channels: int, height: int, width: int) -> torch.Tensor:
    x = torch.randn(1, channels, height, width)
    return x.contiguous(memory_format=torch.channels_last)


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(3, 25),
    width=st.integers(3, 25),
    inputs=st.integers(1, 9),
    outputs=st.integers(1, 9),
    largest=st.sampled_from([1, 4, 7, 256]),
    seed=st.integers(0, 99),
)
def test_it_is_the_plain_convolution(
    height: int, width: int, inputs: int, outputs: int, largest: int, seed: int
) -> None:
    torch.manual_seed(seed)
    x = random_map(inputs, height, width)
    weight, bias = torch.randn(outputs, inputs, 3, 3), torch.randn(outputs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd, "_LARGEST_GROUP", largest)
        found = WideConvolution(weight, bias)(x)
    assert found.shape == (1, outputs, height - 2, width - 2)
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found.double(), plain(x, weight, bias), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("kept", [0, 2**30])
def test_maps_of_several_sizes_share_layer_and_scratch(
    kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Filters are laid out for a size; what an earlier map left in the scratch must not show."""
    monkeypatch.setattr(winograd, "_KEPT_BYTES", kept)
    torch.manual_seed(0)
    scratch = Scratch()
    weights = [torch.randn(8, 8, 3, 3), torch.randn(12, 8, 3, 3)]
    layers = [WideConvolution(w, torch.zeros(len(w)), scratch) for w in weights]
    for size in [(40, 40), (38, 40), (9, 21), (40, 40), (5, 70)]:
        x = random_map(8, *size)
        for layer, weight in zip(layers, weights, strict=True):
            truth = plain(x, weight, torch.zeros(len(weight)))
            torch.testing.assert_close(layer(x).double(), truth, atol=1e-4, rtol=1e-5)


def test_a_lower_map_needs_no_new_layout() -> None:
    """The lowest stripe of a map often has fewer rows than the others."""
    layer = WideConvolution(torch.randn(8, 8, 3, 3), torch.zeros(8))
    layer(random_map(8, 38, 138))  # 9 rows of 34 blocks
    layer(random_map(8, 26, 138))  # 6
    assert len(layer._layouts) == 1
    layer(random_map(8, 6, 38))  # 1 of 9: too much would be computed for nothing
    assert len(layer._layouts) == 2


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 256), st.booleans())
def test_a_grid_covers_a_map_once(height: int, width: int, most: int, full: bool) -> None:
    grid = best_grid(height, width, most, full)
    computed = torch.zeros(4 * grid.rows, 4 * grid.columns, dtype=torch.int32)
    for top, left, rows, columns in grid.groups():
        assert 0 < rows * columns <= grid.group <= most
        computed[top : top + 4 * rows, left : left + 4 * columns] += 1
    assert (computed == 1).all()
    assert (grid.rows, grid.columns) == (-(-height // 4), -(-width // 4))


@pytest.mark.parametrize("channels", [128, 512])
def test_rounding_is_that_of_a_plain_convolution_in_kind(channels: int) -> None:
    """At the widths it is used for, its error is at most a few times that of float32 itself."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(1, channels, 18, 20, generator=generator)
    x = x.contiguous(memory_format=torch.channels_last)
    weight = torch.randn(channels, channels, 3, 3, generator=generator) / (9 * channels) ** 0.5
    bias = torch.randn(channels, generator=generator)
    truth = plain(x, weight, bias)
    usual = functional.relu(functional.conv2d(x, weight, bias)) - truth
    found = WideConvolution(weight, bias)(x) - truth
    assert found.square().mean().sqrt() < 5 * usual.square().mean().sqrt()
    assert found.abs().max() < 8 * usual.abs().max()
    assert found.abs().max() < 1e-5


def test_a_window_of_a_larger_map_is_taken() -> None:
    """Stripes and crops are views of larger maps."""
    x = random_map(4, 30, 30)
    weight, bias = torch.randn(3, 4, 3, 3), torch.zeros(3)
    view = x[:, :, 5:20, 3:22]
    found = WideConvolution(weight, bias)(view)
    torch.testing.assert_close(found.double(), plain(view, weight, bias), atol=1e-4, rtol=1e-5)
    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("inputs", "outputs", "side", "processors"),
    [
        (256, 128, 50, {"AVX512", "AVX2", "DEFAULT"}),
        (128, 256, 50, {"AVX512", "AVX2", "DEFAULT"}),
        (128, 128, 50, {"AVX2", "DEFAULT"}),
        (128, 64, 50, set()),
        (512, 512, 30, set()),
    ],
)
def test_it_is_used_for_wide_layers_and_maps_of_some_size(
    inputs: int,
    outputs: int,
    side: int,
    processors: set[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weight = torch.empty(outputs, inputs, 3, 3)
    for processor in ("AVX512", "AVX2", "DEFAULT"):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda name=processor: name)
        assert is_faster(weight, side, side) == (processor in processors)
