"""Crops of many images at once: all images in flat arrays on one device, one gather per batch.

The package's own :class:`~napari_unet.core.sampling.CropSampler` draws crops image by image,
which suits a handful of images. A base model is trained on hundreds; on a GPU the calls for each
of them would take far longer than the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_unet.core.augmentation import Augmentation
from napari_unet.core.sampling import Batch, mirror


@dataclass(frozen=True)
class AtlasImage:
    """One fully annotated image at the network's scale, with its target on its own grid.

    Attributes
    ----------
    pixels
        ``(h, w, C)`` normalised intensities, float16.
    target
        ``(Y, X)`` class index, uint8.
    weight
        ``(Y, X)`` float16.
    objects
        ``(n, 2)`` middle (y, x) of each object on the annotation grid.
    factor
        Pixels of ``pixels`` per pixel of the annotation grid.
    share
        Relative frequency with which the image is drawn.
    """

    pixels: npt.NDArray[np.float16]
    target: npt.NDArray[np.uint8]
    weight: npt.NDArray[np.float16]
    objects: npt.NDArray[np.intp]
    factor: float
    share: float


class CropAtlas:
    """Endless source of augmented batches from many images.

    Half of the crops lie near an object drawn uniformly among those of the image, half anywhere.

    Parameters
    ----------
    images
        Where crops come from; all with the same number of channels.
    crop
        Side of a crop in pixels at the network's scale.
    batch
        Crops per batch.
    augmentation
        Random changes. Its generator draws everything, and its device holds the images.
    """

    def __init__(
        self, images: Sequence[AtlasImage], *, crop: int, batch: int, augmentation: Augmentation
    ) -> None:
        self.crop, self.batch, self.augmentation = crop, batch, augmentation
        device = self.device = augmentation.device

        def flat(parts: Sequence[npt.NDArray[np.generic]]) -> Tensor:
            return torch.from_numpy(np.concatenate(parts)).to(device)

        def starts(parts: Sequence[npt.NDArray[np.generic]]) -> Tensor:
            ends = np.cumsum([len(part) for part in parts])
            return torch.from_numpy(np.concatenate([[0], ends[:-1]])).to(device)

        pixels = [image.pixels.reshape(-1, image.pixels.shape[-1]) for image in images]
        targets = [image.target.ravel() for image in images]
        objects = [image.objects.reshape(-1, 2) for image in images]
        self._pixels, self._pixel_start = flat(pixels), starts(pixels)
        self._target, self._place_start = flat(targets), starts(targets)
        self._weight = flat([image.weight.ravel() for image in images])
        self._objects, self._object_start = flat(objects), starts(objects)
        self._object_count = torch.tensor([len(part) for part in objects], device=device)
        self._size = torch.tensor([image.pixels.shape[:2] for image in images], device=device)
        self._grid = torch.tensor([image.target.shape for image in images], device=device)
        self._factor = torch.tensor([image.factor for image in images], device=device)
        self._shares = torch.tensor([image.share for image in images], device=device)

    def draw(self) -> Batch:
        """Return the next batch, on the device of the generator."""
        generator = self.augmentation.generator
        chosen = torch.multinomial(self._shares, self.batch, replacement=True, generator=generator)
        offsets = self.augmentation.grid(self.batch, self.crop)
        factor = self._factor[chosen][:, None]
        half = (self.crop - 1) / 2
        start = torch.round((self._centres(chosen) + 0.5) * factor - 0.5 - half) + half
        size = self._size[chosen][:, None, None, :].float()
        coordinates = mirror(start[:, None, None, :] + offsets, size)

        places = torch.floor((coordinates + 0.5) / factor[:, None, None]).long().clamp(min=0)
        grid = self._grid[chosen][:, None, None, :]
        places = torch.minimum(places, grid - 1)
        index = (
            self._place_start[chosen][:, None, None]
            + places[..., 0] * grid[..., 1]
            + places[..., 1]
        )
        image = self.augmentation.intensities(self._interpolated(chosen, coordinates))
        return Batch(image, self._target[index].long(), self._weight[index].float())

    def _centres(self, chosen: Tensor) -> Tensor:
        """Draw one crop centre per chosen image, ``(N, 2)`` on the annotation grid."""
        generator, device, count = self.augmentation.generator, self.device, len(chosen)
        near, where, row, column, *jitter = torch.rand(6, count, generator=generator, device=device)
        available = self._object_count[chosen]
        pick = self._object_start[chosen] + (where * available).long()
        objects = self._objects[pick.clamp(max=max(len(self._objects) - 1, 0))].float()
        reach = self.crop / 4 / self._factor[chosen][:, None]
        objects = objects + (torch.stack(jitter, dim=1) * 2 - 1) * reach
        anywhere = torch.stack([row, column], dim=1) * (self._grid[chosen] - 1)
        return torch.where(((near < 0.5) & (available > 0))[:, None], objects, anywhere)

    def _interpolated(self, chosen: Tensor, coordinates: Tensor) -> Tensor:
        """Read ``(N, C, s, s)`` at real coordinates by cubic convolution (Keys 1981)."""
        last = self._size[chosen][:, None, None, :] - 1
        base = torch.floor(coordinates)
        taps = _cubic_taps(coordinates - base)
        base = base.long()
        start = self._pixel_start[chosen][:, None, None]
        rows, columns = (
            [
                torch.minimum((base[..., axis] + k - 1).clamp(min=0), last[..., axis])
                for k in range(4)
            ]
            for axis in (0, 1)
        )
        channels = self._pixels.shape[1]
        image = torch.zeros(*coordinates.shape[:3], channels, device=self.device)
        for i in range(4):
            line = start + rows[i] * (last[..., 1] + 1)
            for j in range(4):
                value = self._pixels[line + columns[j]].float()
                image.addcmul_(value, (taps[i][..., 0] * taps[j][..., 1])[..., None])
        return image.permute(0, 3, 1, 2)


def _cubic_taps(fraction: Tensor, a: float = -0.75) -> list[Tensor]:
    """Return the weights of the four neighbours at ``fraction`` (0 to 1) beyond the second.

    Keys, "Cubic convolution interpolation for digital image processing" (1981), with the
    coefficient that ``torch.nn.functional.grid_sample`` uses.
    """

    def near(x: Tensor) -> Tensor:
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def far(x: Tensor) -> Tensor:
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

    return [far(fraction + 1), near(fraction), near(1 - fraction), far(2 - fraction)]
