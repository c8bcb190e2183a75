"""The optimiser's side of a run: loss, schedule, average, batch norm, memory, restart."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from napari_unet.core import gradient_step
from napari_unet.core.errors import DeviceMemoryError, SettingsError
from napari_unet.core.events import Scores
from napari_unet.core.model import Model
from napari_unet.core.optimization import NORM_FREEZE, Optimization, seeded
from napari_unet.core.preparation import PreparedData
from napari_unet.core.settings import TrainSettings
from napari_unet.core.unet import UNet

from .small_training import CPU, TINY, data_of, nuclei, small

GOOD, POOR = (Scores(ap, ap, ap, ap, 0.1) for ap in (1.0, 0.0))


@pytest.fixture(scope="module")
def data() -> PreparedData:
    return data_of(nuclei())


def model(seed: int = 0, **options: Any) -> Model:
    with seeded(seed, CPU):
        return Model(UNet(1, 2, **{**TINY.to_dict(), **options}).eval())


def run_of(
    data: PreparedData,
    settings: TrainSettings | None = None,
    *,
    fine_tuning: bool = False,
    start: Model | None = None,
) -> Optimization:
    return Optimization(start or model(), data, settings or small(), CPU, fine_tuning=fine_tuning)


def norms(run: Optimization) -> list[nn.BatchNorm2d]:
    return [module for module in run.net.modules() if isinstance(module, nn.BatchNorm2d)]


# --- loss --------------------------------------------------------------------------------------


def test_the_target_of_an_ignored_pixel_changes_nothing_at_all(data: PreparedData) -> None:
    """Complaint 4: after several steps every weight is still the same bit for bit."""
    ignored = [image.weight == 0 for image in data.images]
    assert all(0 < int(mask.sum()) < mask.numel() for mask in ignored)
    perturbed = replace(
        data,
        images=tuple(
            replace(image, target=torch.where(mask, torch.full_like(image.target, 1), image.target))
            for image, mask in zip(data.images, ignored, strict=True)
        ),
    )
    first, second = run_of(data), run_of(perturbed)
    for step in range(4):
        assert first.advance(step / 4) == second.advance(step / 4)
    for a, b in zip(first.net.parameters(), second.net.parameters(), strict=True):
        assert torch.equal(a, b)
        assert a.grad is not None and b.grad is not None and torch.equal(a.grad, b.grad)


# --- rates and averages ------------------------------------------------------------------------


def test_the_rate_warms_up_and_falls_along_a_cosine(data: PreparedData) -> None:
    run = run_of(data, small(learning_rate=1e-2))
    rates = [run.advance(k / 40)[1] for k in range(40)]
    expected = [
        1e-2 * min(1, (k + 1) / 20) * 0.5 * (1 + math.cos(math.pi * k / 40)) for k in range(40)
    ]
    assert rates == pytest.approx(expected)


def test_a_base_that_misses_the_only_cells_is_followed_where_none_is_held_back(
    data: PreparedData,
) -> None:
    """One odd cell, learned by heart without an anchor, made all other cells disappear."""
    assert data.validation
    guarded = run_of(data, fine_tuning=True)
    unguarded = run_of(replace(data, validation=(), objects=1), fine_tuning=True)
    for run in (guarded, unguarded):
        run.follow(model(1), POOR)
    assert guarded.trust == 0 and guarded._compute.anchor is None
    assert unguarded.trust > 0.8 and unguarded._compute.anchor is not None


def test_a_good_base_is_moved_by_smaller_steps_than_a_poor_one(data: PreparedData) -> None:
    rates = []
    for scores in (POOR, GOOD):
        run = run_of(data, fine_tuning=True)
        run.follow(model(1), scores)
        rates.append(run.advance(0.0)[1])
    assert rates[0] > 2 * rates[1] > 0


@pytest.mark.parametrize(
    ("name", "kind", "momentum"),
    [("sgd", torch.optim.SGD, 0.99), ("adamw", torch.optim.AdamW, None)],
)
def test_the_optimiser_is_the_one_asked_for(
    data: PreparedData, name: Any, kind: type, momentum: float | None
) -> None:
    run = run_of(data, small(optimizer=name, weight_decay=0.03))
    optimizer = run._optimizer
    assert type(optimizer) is kind
    (group,) = optimizer.param_groups
    assert group["weight_decay"] == 0.03
    if momentum:
        assert group["momentum"] == momentum
    before = [p.clone() for p in run.net.parameters()]
    run.advance(0.0)
    assert all(not torch.equal(a, b) for a, b in zip(before, run.net.parameters(), strict=True))


def test_the_model_follows_the_weights_as_a_moving_average(data: PreparedData) -> None:
    run = run_of(data)
    expected = {k: v.clone() for k, v in run.net.state_dict().items()}
    for step in range(1, 6):
        run.advance(0.1)
        decay = min(0.99, (1 + step) / (10 + step))
        for name, value in run.net.state_dict().items():
            if value.is_floating_point():
                expected[name] = decay * expected[name] + (1 - decay) * value
    current = run.current_model().net.state_dict()
    for name, value in expected.items():
        if value.is_floating_point():
            torch.testing.assert_close(current[name], value)


def test_models_that_are_handed_out_do_not_change_later(data: PreparedData) -> None:
    run = run_of(data)
    run.advance(0.0)
    current = run.current_model()
    assert not current.net.training
    before = {k: v.clone() for k, v in current.net.state_dict().items()}
    run.advance(0.1)
    assert all(torch.equal(v, before[k]) for k, v in current.net.state_dict().items())


def test_the_best_weights_are_kept(data: PreparedData) -> None:
    run = run_of(data)
    run.advance(0.0)
    assert run.remember(0.4)
    kept = {k: v.clone() for k, v in run.best.items()}
    run.advance(0.1)
    assert not run.remember(0.4), "a tie is no improvement"
    assert all(torch.equal(v, kept[k]) for k, v in run.best.items())
    assert run.remember(0.41)
    assert any(not torch.equal(v, kept[k]) for k, v in run.best.items())


def test_the_start_model_is_not_changed(data: PreparedData) -> None:
    start = model()
    before = {k: v.clone() for k, v in start.net.state_dict().items()}
    run = run_of(data, start=start)
    run.advance(0.0)
    run.advance(0.9)
    assert all(torch.equal(v, before[k]) for k, v in start.net.state_dict().items())


# --- batch norm --------------------------------------------------------------------------------


def test_fine_tuning_uses_the_statistics_of_the_base_from_the_first_step(
    data: PreparedData,
) -> None:
    run = run_of(data, fine_tuning=True)
    before = [norm.running_mean.clone() for norm in norms(run)]  # type: ignore[union-attr]
    run.advance(0.0)
    run.advance(0.9)
    for norm, mean in zip(norms(run), before, strict=True):
        assert not norm.training and torch.equal(norm.running_mean, mean)  # type: ignore[arg-type]


def test_from_scratch_statistics_are_measured_and_fixed_half_way(data: PreparedData) -> None:
    """The remedy for few cells: what is used is what the second half was trained with."""
    run = run_of(data)
    run.advance(0.0)
    assert all(norm.training for norm in norms(run))
    run.advance(NORM_FREEZE)
    assert run.frozen_norm and all(not norm.training for norm in norms(run))
    fixed = [norm.running_mean.clone() for norm in norms(run)]  # type: ignore[union-attr]
    assert all(mean.any() for mean in fixed)
    for fraction in (0.6, 0.9):
        run.advance(fraction)
    for norm, mean in zip(norms(run), fixed, strict=True):
        assert torch.equal(norm.running_mean, mean)  # type: ignore[arg-type]


def test_one_pixel_at_the_bottom_has_no_statistics(data: PreparedData) -> None:
    start = model(depth=4, base_channels=1)
    with pytest.raises(SettingsError, match="choose a larger crop or more crops per step"):
        run_of(data, small(crop=16, batch=1), start=start)
    run = run_of(data, small(crop=16, batch=2), start=start)
    assert math.isfinite(run.advance(0.0)[0])


# --- what goes wrong ---------------------------------------------------------------------------


def test_memory_that_runs_out_halves_the_batch(
    data: PreparedData, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Complaint 12."""
    sizes: list[int] = []
    loss = gradient_step.weighted_cross_entropy

    def limited(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        sizes.append(len(logits))
        if len(logits) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB")
        return loss(logits, target, weight)

    monkeypatch.setattr(gradient_step, "weighted_cross_entropy", limited)
    run = run_of(data, small(batch=8))
    with caplog.at_level(logging.WARNING):
        assert math.isfinite(run.advance(0.0)[0])
    assert run.step == 1 and sizes == [8, 4, 2]
    assert "batches of 2" in caplog.text
    run.advance(0.1)
    assert sizes[3:] == [2]


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("out of memory"), MemoryError(), RuntimeError("not enough memory")],
)
def test_a_crop_that_never_fits_is_explained(
    data: PreparedData, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(*_: Tensor) -> Tensor:
        raise error

    monkeypatch.setattr(gradient_step, "weighted_cross_entropy", full)
    with pytest.raises(DeviceMemoryError, match="choose a smaller crop"):
        run_of(data).advance(0.0)


def test_other_errors_are_not_taken_for_lack_of_memory(
    data: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Tensor) -> Tensor:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(gradient_step, "weighted_cross_entropy", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        run_of(data).advance(0.0)


@pytest.mark.parametrize("where", ["loss", "anchor"])
def test_a_loss_that_is_no_number_changes_no_weight(
    data: PreparedData, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Complaint 1: the collapse is noticed before it reaches the weights."""
    run = run_of(data, fine_tuning=True)
    run.follow(model(1), GOOD)
    run.advance(0.0)
    before = {k: v.clone() for k, v in run.net.state_dict().items()}
    average = {k: v.clone() for k, v in run.average.items()}

    def nothing(*_: Any) -> Tensor:
        return torch.tensor(math.nan, requires_grad=True)

    if where == "loss":
        monkeypatch.setattr(gradient_step, "weighted_cross_entropy", nothing)
    else:
        monkeypatch.setattr(gradient_step.Anchor, "loss", nothing)
    loss, _ = run.advance(0.1)
    assert math.isnan(loss) and run.broken and run.step == 1
    assert all(torch.equal(v, before[k]) for k, v in run.net.state_dict().items())
    assert all(torch.equal(v, average[k]) for k, v in run.average.items())


# --- random numbers and restart ----------------------------------------------------------------


def test_seeding_is_undone() -> None:
    before = torch.get_rng_state()
    with seeded(3, CPU):
        first = torch.rand(4)
    with seeded(3, CPU):
        again = torch.rand(4)
    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), before)


def test_dropout_differs_from_step_to_step_but_repeats(data: PreparedData) -> None:
    settings = small(learning_rate=1e-7, weight_decay=0.0)
    state = torch.get_rng_state()
    runs = [run_of(data, settings, start=model(dropout=0.5)) for _ in range(2)]
    losses = [[run.advance(0.0)[0] for _ in range(3)] for run in runs]
    assert losses[0] == losses[1]
    assert torch.equal(torch.get_rng_state(), state)
    masks = []
    runs[0].net.dropout.register_forward_hook(lambda _m, _i, out: masks.append(out == 0))
    sampled = runs[0]._sampler.draw()
    for step in (7, 8, 7):
        runs[0].step = step
        runs[0]._gradient_step(sampled)
    assert not torch.equal(masks[0], masks[2]) and torch.equal(masks[0], masks[4])


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_restored_run_goes_on_as_if_nothing_had_happened(
    data: PreparedData, optimizer: Any
) -> None:
    settings = small(optimizer=optimizer)
    straight = run_of(data, settings, start=model(dropout=0.3))
    fractions = [k / 8 for k in range(8)]
    for fraction in fractions[:5]:  # beyond the point at which statistics are fixed
        straight.advance(fraction)
    straight.remember(0.5)
    state = straight.state(1.5)
    assert (state.step, state.seconds, state.best_quality) == (5, 1.5, 0.5)
    resumed = run_of(data, settings, start=model(dropout=0.3))
    resumed.restore(state)
    for fraction in fractions[5:]:
        assert straight.advance(fraction) == resumed.advance(fraction)
    ends = straight.state(2.0), resumed.state(2.0)
    for part in ("net", "average", "best", "optimizer"):
        first, second = (getattr(end, part) for end in ends)
        assert list(first) == list(second) and len(first) > 5
        assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(ends[0].generator, ends[1].generator)


def test_a_state_is_a_copy(data: PreparedData) -> None:
    run = run_of(data)
    run.advance(0.0)
    state = run.state(0.0)
    before = {k: v.clone() for k, v in state.net.items()}
    moments = {k: v.clone() for k, v in state.optimizer.items()}
    run.advance(0.1)
    assert all(torch.equal(v, before[k]) for k, v in state.net.items())
    assert all(torch.equal(v, moments[k]) for k, v in state.optimizer.items())
