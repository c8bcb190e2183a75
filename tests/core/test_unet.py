"""The network: sizes, dependency of outputs on inputs, initialisation, parts."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from napari_unet.core.errors import SettingsError, SizeError
from napari_unet.core.settings import Padding
from napari_unet.core.unet import UNet

PADDINGS: tuple[Padding, ...] = ("valid", "same")


def shape_of(net: UNet, *shape: int) -> tuple[int, ...]:
    with torch.no_grad():
        return tuple(net(torch.zeros(shape)).shape)


def tiny(depth: int, padding: Padding, **options: object) -> UNet:
    arguments = {"base_channels": 1, "dropout": 0.0, **options}
    return UNet(depth=depth, padding=padding, **arguments).eval()  # type: ignore[arg-type]


# --- the published network ---------------------------------------------------------------------


def test_the_published_network_maps_572_to_388() -> None:
    assert UNet().output_size(572) == 388
    # The number of feature channels has no influence on sizes.
    assert shape_of(UNet(base_channels=1), 1, 1, 572, 572) == (1, 2, 388, 388)


def test_the_published_network_has_the_published_number_of_parameters() -> None:
    """Counted by hand from figure 1 of the paper, layer by layer."""

    def conv(channels_in: int, channels_out: int, taps: int) -> int:
        return channels_in * channels_out * taps + channels_out

    expected = conv(1, 64, 9) + conv(64, 64, 9)
    for narrow, wide in ((64, 128), (128, 256), (256, 512), (512, 1024)):
        expected += conv(narrow, wide, 9) + conv(wide, wide, 9)
        expected += conv(wide, narrow, 4) + conv(wide, narrow, 9) + conv(narrow, narrow, 9)
    expected += conv(64, 2, 1)
    assert expected == 31_030_658
    assert sum(p.numel() for p in UNet().parameters()) == expected


def test_the_published_network_has_23_convolutions() -> None:
    """Section 2 of the paper: "In total the network has 23 convolutional layers"."""
    assert len(list(UNet(base_channels=1).convolutions())) == 23


# --- sizes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_output_size_agrees_with_the_forward_pass_for_every_size(
    depth: int, padding: Padding
) -> None:
    net = tiny(depth, padding)
    width = net.fitting_size(1)
    fits = 0
    for size in range(1, net.size_loss + 3 * net.stride + 1):
        image = torch.zeros(1, 1, size, width)
        try:
            expected = net.output_size(size)
        except SizeError:
            with pytest.raises(SizeError):
                net(image)
            continue
        assert shape_of(net, *image.shape)[-2:] == (expected, net.output_size(width))
        fits += 1
    assert fits == 3


SIZES = {(depth, p): tiny(depth, p) for depth in range(1, 7) for p in PADDINGS}


@given(st.integers(1, 6), st.sampled_from(PADDINGS), st.integers(-5, 3000), st.integers(1, 1500))
def test_fitting_sizes_are_the_smallest_that_fit(
    depth: int, padding: Padding, size: int, output: int
) -> None:
    net = SIZES[depth, padding]

    def fits(candidate: int) -> bool:
        try:
            return net.output_size(candidate) >= 1
        except SizeError:
            return False

    found = net.fitting_size(size)
    assert found >= size and fits(found)
    assert not any(fits(smaller) for smaller in range(max(size, found - net.stride), found))
    needed = net.input_size(output)
    assert net.output_size(needed) >= output
    smaller_fits = [s for s in range(needed - net.stride, needed) if fits(s)]
    assert all(net.output_size(s) < output for s in smaller_fits)


@pytest.mark.parametrize("padding", PADDINGS)
def test_a_size_that_does_not_fit_is_explained_with_one_that_does(padding: Padding) -> None:
    net = tiny(2, padding)
    with pytest.raises(SizeError) as caught:
        net(torch.zeros(1, 1, net.fitting_size(60), 61))
    message = str(caught.value)
    assert "61 px" in message and f"{net.fitting_size(61)} px" in message
    assert shape_of(net, 1, 1, net.fitting_size(61), net.fitting_size(61))


def test_a_valid_network_does_not_take_what_leaves_nothing() -> None:
    """Sizes whose bottom fits but whose expanding path runs out of pixels."""
    net = tiny(1, "valid")
    assert net.fitting_size(1) == 18
    with pytest.raises(SizeError, match="18 px"):
        net(torch.zeros(1, 1, 14, 18))


@pytest.mark.parametrize("shape", [(8, 8), (1, 8, 8), (1, 1, 1, 8, 8)])
def test_other_numbers_of_axes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(SizeError, match="axes"):
        tiny(1, "same")(torch.zeros(shape))


def test_other_numbers_of_channels_are_refused() -> None:
    with pytest.raises(SizeError, match=r"takes 3 channel\(s\), the image has 1"):
        tiny(1, "same", in_channels=3)(torch.zeros(1, 1, 8, 8))


# --- receptive field and halo ------------------------------------------------------------------


def dependency(net: UNet, size: int, output: int) -> tuple[int, int]:
    """Return first and last input row that one output row depends on, by its gradient.

    With positive weights and inputs no ReLU cuts a path, and no two paths cancel.
    """
    image = torch.ones(1, 1, size, net.fitting_size(1), dtype=torch.float64, requires_grad=True)
    logits = net(image)
    logits[0, 0, output].sum().backward()
    assert image.grad is not None
    rows = torch.nonzero(image.grad.abs().sum(dim=(0, 1, 3))).ravel()
    return int(rows[0]), int(rows[-1])


@pytest.fixture
def all_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    """Average instead of maximum: depends on the same four pixels, but on all of them at once."""
    monkeypatch.setattr(nn.functional, "max_pool2d", nn.functional.avg_pool2d)


def with_positive_weights(net: UNet) -> UNet:
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.rand_like(parameter) + 0.1)
    return net.double()


@pytest.mark.usefixtures("all_paths")
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_receptive_field_and_halo_equal_the_support_of_gradients(
    depth: int, padding: Padding
) -> None:
    torch.manual_seed(depth)
    net = with_positive_weights(tiny(depth, padding))
    # Far enough from both ends that nothing is cut off, at a multiple of the stride.
    start = -(-2 * net.receptive_field // net.stride) * net.stride
    size = net.fitting_size(2 * start + net.size_loss + net.stride)
    spans = [dependency(net, size, start + phase) for phase in range(net.stride)]
    assert max(last - first + 1 for first, last in spans) == net.receptive_field
    if padding == "valid":
        # A pixel of the output lies in the middle of what was lost around it.
        assert net.halo == net.size_loss / 2
    else:
        # No output of a block of pixels reaches farther than the halo, and the next smaller halo
        # that keeps blocks aligned would be too small.
        before = start - min(first for first, _ in spans)
        after = max(last for _, last in spans) - (start + net.stride - 1)
        assert net.halo - net.stride < max(before, after) <= net.halo
        assert net.halo % net.stride == 0


def test_halo_of_the_published_network_is_half_its_size_loss() -> None:
    assert UNet(base_channels=1).halo == (572 - 388) // 2


@pytest.mark.parametrize("padding", PADDINGS)
def test_the_network_computes_the_same_function_every_stride(padding: Padding) -> None:
    """What makes overlap-tile exact: shifting the input by the stride shifts the output."""
    torch.manual_seed(1)
    net = tiny(2, padding, base_channels=3).double()
    image = torch.randn(1, 1, net.fitting_size(120), net.fitting_size(120), dtype=torch.float64)
    with torch.no_grad():
        whole, shifted = net(image), net(image[..., net.stride :, :][..., : -net.stride, :])
    if padding == "same":
        kept = slice(net.halo, -net.halo)
        expected = whole[..., net.stride : -net.stride, :][..., kept, :]
        torch.testing.assert_close(shifted[..., kept, :], expected)
    else:
        expected = whole[..., net.stride : net.stride + shifted.shape[-2], :]
        torch.testing.assert_close(shifted, expected)


# --- parts -------------------------------------------------------------------------------------


def test_weights_start_with_the_standard_deviation_of_he() -> None:
    """Section 3 of the paper: sqrt(2 / N), N incoming nodes of one neuron."""
    torch.manual_seed(0)
    net = UNet(in_channels=3, n_classes=64, base_channels=32, depth=2)
    for layer in net.convolutions():
        assert isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d))
        incoming = layer.in_channels
        if isinstance(layer, nn.Conv2d):
            incoming *= math.prod(layer.kernel_size)
        weight: Tensor = layer.weight.detach()
        relative_error = 1 / math.sqrt(2 * weight.numel())  # of a standard deviation
        assert float(weight.std()) == pytest.approx(math.sqrt(2 / incoming), rel=5 * relative_error)
        assert layer.bias is not None and not layer.bias.any()


def test_he_initialisation_keeps_the_size_of_the_signal() -> None:
    torch.manual_seed(0)
    net = UNet(base_channels=16, depth=3, padding="same", dropout=0.0)
    with torch.no_grad():
        logits = net(torch.randn(4, 1, 64, 64))
    assert 0.1 < float(logits.std()) < 10


@pytest.mark.parametrize("norm", [None, "batch"])
def test_convolutions_have_a_bias_only_where_no_norm_follows(norm: str | None) -> None:
    net = tiny(2, "same", norm=norm)
    blocks = [*net.contracting, net.bottom, *net.expanding]
    inside = {layer for block in blocks for layer in block if isinstance(layer, nn.Conv2d)}
    assert len(inside) == 2 * len(blocks)
    for layer in net.convolutions():
        assert (layer.bias is None) == (norm == "batch" and layer in inside)
    kinds = [type(layer) for layer in net.bottom]
    unit = [nn.Conv2d, nn.BatchNorm2d, nn.ReLU] if norm else [nn.Conv2d, nn.ReLU]
    assert kinds == 2 * unit


@pytest.mark.parametrize("n_classes", [1, 2, 7])
def test_one_output_channel_per_class(n_classes: int) -> None:
    net = tiny(1, "same", n_classes=n_classes)
    logits = net(torch.zeros(2, 1, 8, 8))
    assert logits.shape == (2, n_classes, 8, 8)
    assert not torch.allclose(logits.sum(1), torch.ones(2, 8, 8)), "logits, not probabilities"


def test_dropout_acts_at_the_end_of_the_contracting_path_only() -> None:
    """On the last contracting level (also where its skip connection starts) and the bottom."""
    net = UNet(base_channels=8, depth=3, padding="same", dropout=0.5).train()
    dropped: dict[str, bool] = {}
    places = {
        "level 0": net.contracting[0],
        "level 1": net.contracting[1],
        "pool into bottom": net.bottom,
        "up": net.up[2],
        "expanding": net.expanding[1],
    }
    inputs: dict[str, list[Tensor]] = {name: [] for name in places}
    for name, part in places.items():
        part.register_forward_pre_hook(
            lambda _module, arguments, name=name: inputs[name].append(arguments[0].clone())
        )
    image = torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        for seed in (0, 1):
            torch.manual_seed(seed)
            net(image)
    dropped = {name: not torch.equal(*values) for name, values in inputs.items()}
    assert dropped == {
        "level 0": False,
        "level 1": False,
        "pool into bottom": True,
        "up": True,
        "expanding": True,
    }
    calls = []
    net.dropout.register_forward_hook(lambda _m, arguments, _o: calls.append(arguments[0].shape))
    net(image)
    assert calls == [(1, 32, 8, 8), (1, 64, 4, 4)]


def test_evaluation_is_repeatable_although_there_is_dropout() -> None:
    net = UNet(base_channels=2, depth=1, padding="same", dropout=0.9).eval()
    image = torch.rand(1, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(net(image), net(image))


@settings(max_examples=20)
@given(
    st.tuples(
        st.integers(1, 3),
        st.integers(1, 4),
        st.integers(1, 4),
        st.integers(1, 3),
        st.sampled_from(PADDINGS),
        st.sampled_from([None, "batch"]),
        st.floats(0, 0.99),
    )
)
def test_the_configuration_builds_the_same_network(arguments: tuple[object, ...]) -> None:
    net = UNet(*arguments)  # type: ignore[arg-type]
    again = UNet(**net.config())
    assert again.config() == net.config()
    again.load_state_dict(net.state_dict())


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"in_channels": 0}, "in_channels"),
        ({"n_classes": 0}, "n_classes"),
        ({"base_channels": 0}, "base_channels"),
        ({"depth": 0}, "depth"),
        ({"depth": 10**9}, "depth"),
        ({"padding": "reflect"}, "padding"),
        ({"norm": "instance"}, "norm"),
        ({"dropout": 1.0}, "dropout"),
        ({"dropout": -0.1}, "dropout"),
    ],
)
def test_impossible_networks_are_refused(options: dict[str, object], word: str) -> None:
    with pytest.raises(SettingsError, match=word):
        UNet(**options)  # type: ignore[arg-type]
