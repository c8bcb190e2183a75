"""Loss and gradients of one batch."""

from __future__ import annotations

import logging
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_unet.core.gradient_step import GradientStep, centre, weighted_cross_entropy
from napari_unet.core.sampling import Batch

from .networks import small_net
from .small_training import CPU


@given(st.integers(1, 3), st.integers(2, 4), st.integers(0, 1000))
def test_the_loss_is_the_weighted_mean_of_the_cross_entropy(
    count: int, classes: int, seed: int
) -> None:
    """Equation 1 of the paper, pixel by pixel."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(count, classes, 3, 4))
    target = rng.integers(0, classes, (count, 3, 4))
    weight = rng.random((count, 3, 4)) * (rng.random((count, 3, 4)) < 0.6)
    total = 0.0
    for n, y, x in np.ndindex(count, 3, 4):
        powers = np.exp(logits[n, :, y, x])
        total -= weight[n, y, x] * math.log(powers[target[n, y, x]] / powers.sum())
    expected = total / max(weight.sum(), 1e-6)
    found = weighted_cross_entropy(
        torch.from_numpy(logits), torch.from_numpy(target), torch.from_numpy(weight)
    )
    assert float(found) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_a_target_outside_the_classes_does_no_harm_where_it_is_ignored() -> None:
    target = torch.tensor([[[0, 255]]])
    loss = weighted_cross_entropy(torch.zeros(1, 2, 1, 2), target, torch.tensor([[[1.0, 0.0]]]))
    assert float(loss) == pytest.approx(math.log(2))


def test_a_crop_without_annotation_has_no_gradient() -> None:
    logits = torch.randn(1, 2, 3, 3, requires_grad=True)
    loss = weighted_cross_entropy(
        logits, torch.zeros(1, 3, 3, dtype=torch.long), torch.zeros(1, 3, 3)
    )
    loss.backward()
    assert loss.item() == 0 and logits.grad is not None and not logits.grad.any()


@pytest.mark.parametrize(("size", "wanted"), [(8, 8), (9, 5), (8, 4)])
def test_the_middle_is_what_a_valid_network_answers_for(size: int, wanted: int) -> None:
    pixels = torch.arange(size * size).reshape(1, size, size)
    margin = (size - wanted) // 2
    expected = pixels[:, margin : margin + wanted, margin : margin + wanted]
    assert torch.equal(centre(pixels, torch.Size([wanted, wanted])), expected)


def random_batch(seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(2, 1, 16, 16, generator=generator)
    return Batch(image, (image[:, 0] > 0.5).long(), torch.ones(2, 16, 16))


def test_gradients_are_those_of_the_batch_alone_and_not_too_long() -> None:
    net = small_net()  # in evaluation mode: no dropout, fixed statistics
    step = GradientStep(net, CPU)
    with torch.no_grad():
        net.classifier.weight.mul_(1000)
    step(random_batch(0))
    losses = step(random_batch(1))
    assert losses[0] == losses[1] > 0
    gradients = torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])
    assert float(gradients.norm()) == pytest.approx(5.0, rel=1e-3)
    step(random_batch(0))
    step(random_batch(1))
    again = torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])
    torch.testing.assert_close(again, gradients)


def test_where_steps_cannot_be_recorded_training_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    """This PyTorch may know no CUDA at all; a GPU may refuse."""
    steps = [GradientStep(small_net(), CPU) for _ in range(2)]
    steps[0]._recordable = True
    with caplog.at_level(logging.INFO):
        losses = [[step(random_batch(k)) for k in range(6)] for step in steps]
    assert losses[0] == losses[1]
    assert not steps[0].recorded and caplog.text.count("step by step") == 1
