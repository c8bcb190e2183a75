"""The fast convolution of wide layers against the plain one in double precision."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from napari_unet.core import winograd
from napari_unet.core.winograd import WideConvolution


def plain(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return functional.relu(functional.conv2d(x.double(), weight.double(), bias.double()))


@settings(max_examples=40)
@given(
    height=st.integers(3, 25),
    width=st.integers(3, 25),
    inputs=st.integers(1, 9),
    outputs=st.integers(1, 9),
    group_bytes=st.sampled_from([1, 4000, 2**20]),
    seed=st.integers(0, 99),
)
def test_it_is_the_plain_convolution(
    height: int, width: int, inputs: int, outputs: int, group_bytes: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, inputs, height, width, generator=generator)
    x = x.contiguous(memory_format=torch.channels_last)
    weight = torch.randn(outputs, inputs, 3, 3, generator=generator)
    bias = torch.randn(outputs, generator=generator)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd, "_GROUP_BYTES", group_bytes)
        found = WideConvolution(weight, bias)(x)
    assert found.shape == (1, outputs, height - 2, width - 2)
    torch.testing.assert_close(found.double(), plain(x, weight, bias), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("channels", [128, 512])
def test_rounding_is_that_of_a_plain_convolution_in_kind(channels: int) -> None:
    """At the widths it is used for, its error is at most a few times that of float32 itself."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(1, channels, 18, 20, generator=generator)
    x = x.contiguous(memory_format=torch.channels_last)
    weight = torch.randn(channels, channels, 3, 3, generator=generator) / (9 * channels) ** 0.5
    bias = torch.randn(channels, generator=generator)
    truth = plain(x, weight, bias)
    usual = (functional.relu(functional.conv2d(x, weight, bias)) - truth).abs().max()
    found = (WideConvolution(weight, bias)(x) - truth).abs().max()
    assert found < 8 * usual
    assert found < 1e-5


def test_a_window_of_a_larger_map_is_taken() -> None:
    """Stripes and crops are views of larger maps."""
    x = torch.rand(1, 4, 30, 30).contiguous(memory_format=torch.channels_last)
    weight, bias = torch.randn(3, 4, 3, 3), torch.zeros(3)
    view = x[:, :, 5:20, 3:22]
    found = WideConvolution(weight, bias)(view)
    torch.testing.assert_close(found.double(), plain(view, weight, bias), atol=1e-4, rtol=1e-5)
    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("intel", [True, False])
@pytest.mark.parametrize(
    ("inputs", "outputs", "wide"), [(256, 128, True), (128, 256, False), (512, 64, False)]
)
def test_it_is_used_for_wide_layers_where_matrix_products_are_fast(
    inputs: int, outputs: int, wide: bool, intel: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(winograd, "made_by_intel", lambda: intel)
    assert winograd.is_faster(torch.empty(outputs, inputs, 3, 3)) == (wide and intel)
