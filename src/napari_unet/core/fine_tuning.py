"""What keeps fine-tuning safe: an anchor to the base model, mixtures of weights, and a guard."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from napari_unet.core.events import Scores

#: A base with this average precision on the painted cells is followed as far as possible.
TRUSTWORTHY = 0.6
#: Weight of the anchor term for such a base, per unit of the setting.
ANCHOR_STRENGTH = 2.0
#: Share of the tuned weights in the mixture that is tried in the end. Of the gain on other images
#: nearly all comes with the first third of the way, most of the losses beyond its middle. The cells
#: held back are too few to choose it for each case (``benchmarks/mixture.py``).
MIXTURE = 0.35
#: A handful of cells is a noisy judge: mixed and tuned weights must win by this much (over a
#: base that fails, over a trustworthy base) on cells held back,
MARGINS = {"mixture": (0.0, 0.0), "tuned": (0.02, 0.5)}
#: and by this much on cells that were trained on, which anything learns by heart.
MARGINS_ON_TRAINED = {"mixture": (0.01, 0.05), "tuned": (0.5, 0.5)}


def trust(base: Scores | None, unguarded: int = 0) -> float:
    """Return how far a base deserves to be followed, 0 (not at all) to 1.

    A base that already segments the painted cells well is changed little, and kept where nothing
    was painted; one that fails there must not hold the network back. Where no cell is held back,
    nothing would show that a network has learned one or two odd cells by heart and forgotten all
    others, so there one more cell is counted, as found by the base.

    Parameters
    ----------
    base
        Scores of the base on all painted cells: it has not learned from any of them.
    unguarded
        Number of painted cells if none of them is held back, else 0.
    """
    if base is None or math.isnan(base.ap50):
        return 0.0
    found = (unguarded * base.ap50 + 1) / (unguarded + 1) if unguarded else base.ap50
    return min(1.0, found / TRUSTWORTHY)


@dataclass
class Anchor:
    """Keeps the answer of a frozen base network on pixels that were not painted.

    Knowledge distillation (Hinton et al. 2015) restricted to ignored pixels, as in learning
    without forgetting (Li and Hoiem 2016).

    Attributes
    ----------
    base
        The base network in evaluation mode.
    strength
        Weight relative to the cross entropy of the painted pixels.
    """

    base: nn.Module
    strength: float

    def loss(self, logits: Tensor, images: Tensor, weight: Tensor) -> Tensor:
        """Mean cross entropy between base and network over the ignored pixels of a batch."""
        ignored = (weight == 0).to(logits.dtype)
        with torch.no_grad():
            answer = torch.softmax(self.base(images).float(), dim=1)
        difference = -(answer * torch.log_softmax(logits.float(), dim=1)).sum(dim=1)
        return self.strength * (difference * ignored).sum() / ignored.sum().clamp(min=1)


def mixture(base: dict[str, Tensor], tuned: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """Interpolate two state dictionaries: ``(1 - share) * base + share * tuned``.

    Weight-space ensembles of a pretrained and a fine-tuned network keep more of what the former
    knew than either stopping early or lower rates (Wortsman et al. 2022).
    """
    return {
        name: torch.lerp(value, tuned[name], share) if value.is_floating_point() else tuned[name]
        for name, value in base.items()
    }


@dataclass(frozen=True)
class Candidate:
    """Weights that might be delivered, with their scores on the validation cells."""

    name: str
    weights: dict[str, Tensor]
    scores: Scores
    quality: float


def margin(name: str, trusted: float, *, held_back: bool) -> float:
    """Return the gain in quality that a candidate must show over the base.

    A mixture that is no worse than the base on cells held back is mostly better elsewhere, so
    there it need not win by more. Cells that were trained on flatter it, and the tuned weights so
    much that they count only where base and mixture find next to nothing.

    Parameters
    ----------
    name
        Name of the candidate.
    trusted
        See :func:`trust`.
    held_back
        Whether the judged cells were kept out of training.
    """
    low, high = (MARGINS if held_back else MARGINS_ON_TRAINED).get(name, (0.0, 0.0))
    return low + (high - low) * trusted


def explain(kept: Candidate, base: Candidate | None, after: Scores, judged_on: str) -> str:
    """Say in one sentence which weights are delivered and why.

    Parameters
    ----------
    kept
        The chosen weights.
    base
        The base that was started from; None from scratch.
    after
        Scores of what is delivered, with its thresholds.
    judged_on
        What the scores were measured on, in words.
    """
    if base is None:
        return f"The trained network reaches {_figure(after)} on {judged_on}."
    before = _figure(base.scores)
    if kept is base and _figure(after) != before:
        return (
            "The base model is kept, with thresholds fitted to the painted cells: "
            f"{before} before, {_figure(after)} after, on {judged_on}."
        )
    if kept is base:
        return f"The base model is kept: training did not improve on its {before} on {judged_on}."
    kind = (
        "The trained network" if kept.name == "tuned" else "A mixture of base and trained weights"
    )
    return f"{kind} is kept: {before} before, {_figure(after)} after, on {judged_on}."


def _figure(scores: Scores) -> str:
    if math.isnan(scores.ap50):
        return f"mean IoU {scores.f1:.2f}"
    overlap = "" if math.isnan(scores.overlap) else f" with overlap {scores.overlap:.2f}"
    return f"AP {scores.ap50:.2f}{overlap}"


def freeze_norm(net: nn.Module) -> None:
    """Use the running statistics of batch normalisation from now on, in training as in use."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


def measure_norm(net: nn.Module, draw: Callable[[], Tensor], batches: int) -> None:
    """Set batch-norm statistics to their plain mean over some batches.

    A moving average lags behind weights that change fast, and on a few cells each batch looks
    different; the network then answers "background" everywhere in use although its training loss
    is low.
    """
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    training = net.training
    net.eval()  # without dropout, as in use
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative mean
        norm.train()
    with torch.no_grad():
        for _ in range(batches):
            net(draw())
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    net.train(training)
