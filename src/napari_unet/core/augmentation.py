"""Random changes of training crops: one sampling grid per crop, then intensity changes.

Geometry (rotation, mirror, zoom, elastic deformation) is composed into one grid of coordinates,
so that an image is interpolated once, and target and weights are read at exactly the same
places. Everything is batched and runs on the training device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from napari_unet.core.settings import AugmentationSettings

#: Elastic displacements stay below this share of the crop, or the grid would fold over itself.
_LARGEST_STRAIN = 1 / 12


@dataclass(frozen=True)
class Augmentation:
    """Draws and applies random changes.

    Attributes
    ----------
    settings
        Strengths and switches.
    generator
        Source of all random numbers, which are drawn on its device. On the CPU every training
        device sees the same crops; on the GPU large batches are drawn faster.
    """

    settings: AugmentationSettings
    generator: torch.Generator

    @property
    def device(self) -> torch.device:
        """Where random numbers and sampling grids are."""
        return self.generator.device

    def _uniform(self, count: int, low: float, high: float) -> Tensor:
        drawn = torch.rand(count, generator=self.generator, device=self.device)
        return drawn * (high - low) + low

    def grid(self, count: int, size: int) -> Tensor:
        """Draw ``count`` sampling grids of ``size`` x ``size`` pixels.

        Returns
        -------
        Tensor
            ``(count, size, size, 2)`` offsets (y, x) from the centre of the crop, in pixels of
            the network's scale. Without any augmentation this is the regular pixel grid.
        """
        axis = torch.arange(size, dtype=torch.float32, device=self.device) - (size - 1) / 2
        regular = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1)
        offsets = regular.expand(count, size, size, 2) + self._elastic(count, size)
        return torch.einsum("nyxi,nij->nyxj", offsets, self._matrices(count))

    def _matrices(self, count: int) -> Tensor:
        """Draw rotation x mirror x zoom as ``(count, 2, 2)`` matrices."""
        options = self.settings
        angle = self._uniform(count, 0, 2 * math.pi if options.rotation else 0.0)
        zoom = torch.exp(self._uniform(count, -1, 1) * math.log1p(options.scale))
        cosine, sine = torch.cos(angle) * zoom, torch.sin(angle) * zoom
        matrices = torch.stack([cosine, -sine, sine, cosine], dim=-1).reshape(count, 2, 2)
        # With rotation, mirroring one axis reaches both orientations; without, both are needed.
        mirrors = torch.where(self._uniform(2 * count, 0, 1) < 0.5, -1.0, 1.0).reshape(count, 2, 1)
        return matrices * mirrors if options.flips else matrices

    def _elastic(self, count: int, size: int) -> Tensor:
        """Smooth displacements ``(count, size, size, 2)``.

        Random vectors on a 3 x 3 grid, Gaussian with the given standard deviation, brought to
        every pixel by bicubic interpolation (Ronneberger et al. 2015, section 3.1).
        """
        deviation = min(self.settings.elastic, size * _LARGEST_STRAIN)
        coarse = torch.randn(count, 2, 3, 3, generator=self.generator, device=self.device)
        if deviation == 0:
            return torch.zeros(count, size, size, 2, device=self.device)
        coarse = coarse * deviation
        fine = functional.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=True)
        # The mean shift is taken out: it would move the crop away from the drawn annotation.
        fine = fine - fine.mean(dim=(2, 3), keepdim=True)
        return fine.permute(0, 2, 3, 1)

    def intensities(self, images: Tensor) -> Tensor:
        """Change brightness, contrast, curve, sharpness, noise, polarity and colour.

        Parameters
        ----------
        images
            ``(N, C, y, x)`` normalised intensities (about 0 to 1), on any device.
        """
        options = self.settings
        count, channels = images.shape[:2]

        def per_crop(values: Tensor) -> Tensor:
            return values.to(images.device)[:, None, None, None]

        def per_channel(spread: float) -> Tensor:
            common = self._uniform(count, -1, 1)[:, None].expand(count, channels)
            single = self._uniform(count * channels, -1, 1).reshape(count, channels)
            mixed = (common + 0.5 * single) * spread if channels > 1 else common * spread
            return mixed.to(images.device)[:, :, None, None]

        if options.desaturation:
            images = self._desaturate(images)
        if options.inversion:
            inverted = per_crop(self._uniform(count, 0, 1) < options.inversion)
            images = torch.where(inverted, 1 - images, images)
        if options.gamma:
            exponent = torch.exp(per_channel(options.gamma))
            images = images.clamp(min=1e-4) ** exponent
        if options.contrast:
            images = images * (1 + per_channel(options.contrast)) + per_channel(
                0.5 * options.contrast
            )
        if options.blur:
            images = gaussian_blur(images, self._uniform(count, 0, options.blur))
        if options.noise:
            deviation = per_crop(self._uniform(count, 0, 1) ** 2 * options.noise)
            noise = torch.randn(images.shape, generator=self.generator, device=self.device)
            noise = noise.to(images.device)
            images = images + noise * deviation
        return images

    def _desaturate(self, images: Tensor) -> Tensor:
        """Replace some colour crops by a random mixture of their channels."""
        count, channels = images.shape[:2]
        chosen = self._uniform(count, 0, 1) < self.settings.desaturation
        mixture = self._uniform(count * channels, 0, 1).reshape(count, channels) + 0.05
        mixture = (mixture / mixture.sum(dim=1, keepdim=True)).to(images.device)
        gray = torch.einsum("ncyx,nc->nyx", images, mixture)[:, None].expand_as(images)
        return torch.where(chosen.to(images.device)[:, None, None, None], gray, images)


def gaussian_blur(images: Tensor, deviations: Tensor) -> Tensor:
    """Blur each image of a batch with its own standard deviation (pixels), mirrored borders."""
    count, channels, height, width = images.shape
    radius = min(math.ceil(3 * float(deviations.max())), height - 1, width - 1)
    if radius < 1:
        return images
    taps = torch.arange(-radius, radius + 1, dtype=torch.float32, device=deviations.device)
    kernels = torch.exp(-0.5 * (taps / deviations.clamp(min=1e-3)[:, None]) ** 2)
    kernels = (kernels / kernels.sum(dim=1, keepdim=True)).to(images.device)
    flat = functional.pad(images, (radius,) * 4, mode="reflect").transpose(0, 1)
    weight = kernels[:, None]
    # Each image is one group, so that all are blurred by one convolution with their own kernels.
    flat = functional.conv2d(flat, weight[:, :, :, None], groups=count)
    flat = functional.conv2d(flat, weight[:, :, None, :], groups=count)
    return flat.transpose(0, 1).reshape(count, channels, height, width)
