"""Anchor, mixtures, batch-norm statistics, and the sentence that explains a decision."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from napari_unet.core.events import Scores
from napari_unet.core.fine_tuning import (
    TRUSTWORTHY,
    Anchor,
    Candidate,
    explain,
    freeze_norm,
    margin,
    measure_norm,
    mixture,
    trust,
)
from napari_unet.core.unet import UNet


def scores(ap50: float, f1: float = 0.5) -> Scores:
    return Scores(ap50, ap50 / 2, f1, ap50, 0.1)


def net(dropout: float = 0.0, seed: int = 0) -> UNet:
    torch.manual_seed(seed)
    return UNet(base_channels=3, depth=1, padding="same", norm="batch", dropout=dropout)


# --- anchor ------------------------------------------------------------------------------------


def anchored(seed: int = 0) -> tuple[Anchor, Tensor, Tensor, Tensor]:
    """Return an anchor, logits, images, and weights of which the upper half is painted."""
    anchor = Anchor(net(seed=seed).eval().requires_grad_(False), 2.0)
    torch.manual_seed(seed)
    images = torch.randn(2, 1, 8, 8)
    weight = torch.rand(2, 8, 8) + 0.1
    weight[:, 4:] = 0
    logits = torch.randn(2, 2, 8, 8, requires_grad=True)
    return anchor, logits, images, weight


def test_the_anchor_has_no_gradient_on_painted_pixels() -> None:
    anchor, logits, images, weight = anchored()
    anchor.loss(logits, images, weight).backward()
    assert logits.grad is not None
    assert not logits.grad[:, :, :4].any()
    assert (logits.grad[:, :, 4:].abs().sum(1) > 0).all()


def test_the_anchor_is_the_mean_cross_entropy_to_the_base_on_ignored_pixels() -> None:
    anchor, logits, images, weight = anchored()
    answer = torch.softmax(anchor.base(images), 1)
    per_pixel = -(answer * torch.log(torch.softmax(logits, 1))).sum(1)
    expected = 2.0 * per_pixel[weight == 0].mean()
    torch.testing.assert_close(anchor.loss(logits, images, weight), expected)


def test_the_anchor_pulls_towards_the_answer_of_the_base() -> None:
    anchor, _, images, weight = anchored()
    same = anchor.base(images).clone().requires_grad_()
    anchor.loss(same, images, weight).backward()
    assert same.grad is not None
    torch.testing.assert_close(same.grad, torch.zeros_like(same.grad), atol=1e-6, rtol=0)


def test_without_ignored_pixels_the_anchor_is_silent() -> None:
    anchor, logits, images, _ = anchored()
    loss = anchor.loss(logits, images, torch.ones(2, 8, 8))
    loss.backward()
    assert loss.item() == 0 and logits.grad is not None and not logits.grad.any()


def test_the_base_of_an_anchor_is_not_trained() -> None:
    anchor, logits, images, weight = anchored()
    anchor.loss(logits, images, weight).backward()
    assert all(parameter.grad is None for parameter in anchor.base.parameters())


@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 4))
def test_trust_grows_with_what_the_base_can_do(a: float, b: float, unguarded: int) -> None:
    low, high = sorted((a, b))
    assert 0 <= trust(scores(low), unguarded) <= trust(scores(high), unguarded) <= 1


def test_a_base_that_fails_or_cannot_be_judged_is_not_followed() -> None:
    assert trust(None) == trust(scores(math.nan)) == trust(scores(0)) == 0
    assert trust(None, 1) == trust(scores(math.nan), 1) == 0
    assert trust(scores(TRUSTWORTHY)) == 1
    assert trust(scores(1.0)) == 1


def test_one_missed_cell_does_not_show_that_a_base_fails() -> None:
    """Without a base to follow the network learns that cell by heart, and forgets all others."""
    assert trust(scores(0), 1) > 0.8 > 0.5 > trust(scores(0), 3) > 0.3


@given(st.floats(0, 1))
def test_a_mixture_is_kept_unless_worse_and_tuned_weights_must_win(trusted: float) -> None:
    assert margin("base", trusted, held_back=True) == margin("base", trusted, held_back=False) == 0
    assert margin("mixture", trusted, held_back=True) == 0
    assert margin("tuned", trusted, held_back=True) == pytest.approx(0.02 + 0.48 * trusted)
    assert (
        0 < margin("mixture", trusted, held_back=False) < margin("tuned", trusted, held_back=False)
    )


def test_cells_learned_by_heart_do_not_speak_for_the_tuned_weights() -> None:
    """One cell, missed by half a pixel before and found after: elsewhere all was lost by it."""
    assert margin("tuned", 0.0, held_back=False) >= 0.5


# --- mixtures ----------------------------------------------------------------------------------


def test_a_mixture_lies_between_base_and_tuned_weights() -> None:
    base, tuned = net(seed=1).state_dict(), net(seed=2).state_dict()
    tuned["bottom.1.num_batches_tracked"] = torch.tensor(9)
    for share in (0.0, 0.3, 1.0):
        mixed = mixture(base, tuned, share)
        assert list(mixed) == list(base)
        for name, value in mixed.items():
            if value.is_floating_point():
                torch.testing.assert_close(value, (1 - share) * base[name] + share * tuned[name])
            else:
                assert torch.equal(value, tuned[name])
    assert all(torch.equal(v, base[k]) for k, v in mixture(base, base, 0.5).items())


# --- batch norm --------------------------------------------------------------------------------


def norms(of: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in of.modules() if isinstance(module, nn.BatchNorm2d)]


def test_measured_statistics_are_the_plain_mean_over_batches() -> None:
    """The first norm sees the first convolution of the images: its truth is computed apart."""
    one = net().train()
    for norm in norms(one):
        norm.running_mean.fill_(100)  # type: ignore[union-attr]
    torch.manual_seed(3)
    batches = [torch.randn(2, 1, 8, 8) * k for k in range(1, 5)]
    source = iter(batches)
    with torch.no_grad():
        seen = [one.contracting[0][0](batch) for batch in batches]
    measure_norm(one, lambda: next(source), len(batches))
    first = norms(one)[0]
    means = torch.stack([values.mean(dim=(0, 2, 3)) for values in seen]).mean(0)
    variances = torch.stack([values.var(dim=(0, 2, 3)) for values in seen]).mean(0)
    torch.testing.assert_close(first.running_mean, means)
    torch.testing.assert_close(first.running_var, variances)
    assert next(source, None) is None
    assert [norm.momentum for norm in norms(one)] == [0.1] * len(norms(one))
    assert one.training and all(module.training for module in one.modules())


def test_statistics_are_measured_without_dropout_as_in_use() -> None:
    with_dropout, without = net(dropout=0.8), net(dropout=0.0)
    image = torch.randn(2, 1, 8, 8)
    state = torch.get_rng_state()
    for one in (with_dropout.train(), without.train()):
        measure_norm(one, lambda: image, 2)
    assert torch.equal(torch.get_rng_state(), state)
    for a, b in zip(norms(with_dropout), norms(without), strict=True):
        assert torch.equal(a.running_mean, b.running_mean)  # type: ignore[arg-type]


def test_measuring_leaves_no_gradients_and_no_weights_changed() -> None:
    one = net().train()
    before = {name: p.clone() for name, p in one.named_parameters()}
    measure_norm(one, lambda: torch.randn(2, 1, 8, 8), 2)
    assert all(p.grad is None and torch.equal(p, before[n]) for n, p in one.named_parameters())


def test_frozen_statistics_do_not_move_while_the_rest_trains() -> None:
    one = net().train()
    freeze_norm(one)
    assert all(not norm.training for norm in norms(one))
    assert one.training and one.bottom.training
    one(torch.randn(2, 1, 8, 8) * 50).sum().backward()
    for norm in norms(one):
        assert not norm.running_mean.any()  # type: ignore[union-attr]
        assert norm.weight.grad is not None


# --- explanation -------------------------------------------------------------------------------


def candidate(name: str, result: Scores) -> Candidate:
    return Candidate(name, {}, result, 0.0)


def test_the_decision_is_one_sentence_with_the_figures() -> None:
    base = candidate("base", scores(0.5))
    after = scores(0.75)
    cells = "4 held-back cells"
    said = {
        "scratch": explain(candidate("tuned", after), None, after, cells),
        "tuned": explain(candidate("tuned", after), base, after, cells),
        "mixture": explain(candidate("mixture", after), base, after, cells),
        "base": explain(base, base, base.scores, cells),
    }
    assert said["scratch"] == (
        "The trained network reaches AP 0.75 with overlap 0.75 on 4 held-back cells."
    )
    assert said["tuned"].startswith(
        "The trained network is kept: AP 0.50 with overlap 0.50 before, AP 0.75 with overlap 0.75"
    )
    assert said["mixture"].startswith("A mixture of base and trained weights is kept")
    assert said["base"].startswith("The base model is kept") and "AP 0.50" in said["base"]
    for sentence in said.values():
        assert sentence.endswith(f"on {cells}.") and sentence.count(". ") == 0


@pytest.mark.parametrize("base", [None, candidate("base", scores(math.nan, 0.4))])
def test_classes_are_explained_by_their_overlap(base: Candidate | None) -> None:
    after = scores(math.nan, 0.8)
    sentence = explain(candidate("tuned", after), base, after, "the painted pixels")
    assert "mean IoU 0.80" in sentence and "nan" not in sentence
