"""Random changes of a crop's look beyond the package's own: stains, uneven light, coarse pixels.

Fine-tuning starts from images that resemble one another; a base model has to work on microscopes
it never saw. These changes are applied to batches on the training device.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

#: How often each change is applied.
_STAIN, _LIGHT, _COARSE = 0.4, 0.3, 0.25


def changed_looks(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return ``(N, 3, y, x)`` crops with other stains, uneven light, or coarser pixels."""
    images = mixed_channels(images, generator)
    images = uneven_light(images, generator)
    return coarse_pixels(images, generator)


def mixed_channels(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mix the channels of some crops by a random matrix near the identity.

    Rows add up to one, so that gray stays gray and only colours change.
    """
    count, channels = images.shape[:2]
    device = images.device
    mixing = torch.randn(count, channels, channels, generator=generator, device=device) * 0.35
    mixing = mixing - mixing.mean(dim=2, keepdim=True)
    mixing = mixing * _chosen(count, _STAIN, generator)[:, None, None]
    mixing = mixing + torch.eye(channels, device=device)
    return torch.einsum("nij,njyx->niyx", mixing, images)


def uneven_light(images: Tensor, generator: torch.Generator) -> Tensor:
    """Multiply some crops by a smooth field between about one half and two."""
    count, _, height, width = images.shape
    coarse = torch.randn(count, 1, 3, 3, generator=generator, device=images.device) * 0.3
    coarse = coarse * _chosen(count, _LIGHT, generator)[:, None, None, None]
    field = functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)
    return images * torch.exp(field)


def coarse_pixels(images: Tensor, generator: torch.Generator) -> Tensor:
    """Show some crops as if the camera's pixels had been up to three times larger."""
    size = images.shape[-1]
    factor = 1 + 2 * float(torch.rand(1, generator=generator, device=images.device))
    small = max(2, round(size / factor))
    coarse = functional.interpolate(images, (small, small), mode="area")
    coarse = functional.interpolate(coarse, (size, size), mode="bilinear", align_corners=False)
    chosen = _chosen(len(images), _COARSE, generator)[:, None, None, None]
    return torch.where(chosen > 0, coarse, images)


def _chosen(count: int, share: float, generator: torch.Generator) -> Tensor:
    return (torch.rand(count, generator=generator, device=generator.device) < share).float()
