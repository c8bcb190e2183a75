"""Training crops: drawn where there is annotation, sampled through one grid, batched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from napari_unet.core.augmentation import Augmentation

#: Batches, and crop pixels, that are drawn at once on a GPU at most: there a call costs as much
#: for one crop as for a hundred. A pixel takes about 80 bytes meanwhile.
_DRAWN_AT_ONCE, _PIXELS_AT_ONCE = 32, 2**21
#: More candidate centres than this are thinned out; they only steer where crops are drawn.
_MOST_CANDIDATES = 200_000


@dataclass(frozen=True)
class TrainingImage:
    """One annotated image (or the annotated window of a large one), ready to draw crops from.

    The image is held at the network's scale; target and weights stay on the annotation's own
    grid, exactly as they are shown to the user.

    Attributes
    ----------
    image
        ``(C, h, w)`` normalised intensities at the network's scale.
    target
        ``(Y, X)`` class index, uint8 or int32.
    weight
        ``(Y, X)`` float32; 0 where the pixel is ignored.
    objects
        ``(n, 2)`` the middle (y, x) of each object, by its trained pixels.
    pixels
        ``(m, 2)`` trained pixels (y, x); a random subset of a large annotation.
    factor
        Pixels of ``image`` per pixel of the annotation grid.
    share
        Relative frequency with which this image is drawn.
    """

    image: Tensor = field(repr=False)
    target: Tensor = field(repr=False)
    weight: Tensor = field(repr=False)
    objects: Tensor = field(repr=False)
    pixels: Tensor = field(repr=False)
    factor: float = 1.0
    share: float = 1.0

    @property
    def channels(self) -> int:
        """Channels of the image."""
        return int(self.image.shape[0])


@dataclass(frozen=True)
class Batch:
    """Crops: ``image`` (N, C, s, s) float32, ``target`` (N, s, s) int64, ``weight`` (N, s, s)."""

    image: Tensor
    target: Tensor
    weight: Tensor


def training_image(
    image: npt.NDArray[np.float32],
    target: npt.NDArray[np.uint8 | np.uint16],
    weight: npt.NDArray[np.float32],
    labels: npt.NDArray[np.integer[Any]],
    *,
    factor: float = 1.0,
    share: float | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> TrainingImage:
    """Collect an image, its target and the places crops are drawn at.

    Parameters
    ----------
    image
        ``(C, h, w)`` normalised, at the network's scale.
    target, weight
        ``(Y, X)`` as :func:`napari_unet.core.annotation.training_target` returns them.
    labels
        ``(Y, X)`` annotation; one pixel of each positive label becomes a candidate centre.
    factor
        Pixels of ``image`` per pixel of ``labels``.
    share
        Relative frequency; by default the number of objects.
    """
    random = np.random.default_rng(seed)
    pixels = np.argwhere(weight > 0)
    if len(pixels) > _MOST_CANDIDATES:
        pixels = pixels[random.choice(len(pixels), _MOST_CANDIDATES, replace=False)]
    objects = _object_centres(np.where(weight > 0, labels, 0))
    return TrainingImage(
        image=torch.as_tensor(image, device=device),
        # PyTorch can hold 16 unsigned bits but hardly compute with them.
        target=torch.as_tensor(target if target.dtype == np.uint8 else target.astype(np.int32)).to(
            device
        ),
        weight=torch.as_tensor(weight, device=device),
        objects=torch.as_tensor(objects, device=device),
        pixels=torch.as_tensor(pixels, device=device),
        factor=factor,
        share=float(max(len(objects), 1)) if share is None else share,
    )


def _object_centres(labels: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.intp]:
    """Return the mean position of each positive label, ``(n, 2)``."""
    rows, columns = np.nonzero(labels > 0)
    if rows.size == 0:
        return np.zeros((0, 2), dtype=np.intp)
    _, which = np.unique(labels[rows, columns], return_inverse=True)
    count = np.bincount(which)
    centres = np.stack([np.bincount(which, rows), np.bincount(which, columns)], axis=1)
    return np.rint(centres / count[:, None]).astype(np.intp)


class CropSampler:
    """Endless source of augmented batches.

    Half of the crops are centred near an object drawn uniformly among all objects of the chosen
    image (so that a large object is not drawn more often), half on any trained pixel (so that
    every trained pixel is seen).

    Parameters
    ----------
    images
        Where crops come from.
    crop
        Side of a crop in pixels at the network's scale.
    batch
        Crops per batch.
    augmentation
        Random changes; its generator, on the CPU, also draws positions and images. When the images
        are on a GPU, it seeds a generator there: everything is then drawn on the GPU, a few batches
        at a time, and the state of the CPU's generator is all that a restart needs.
    in_channels
        Channels of the network; a one-channel image is repeated when the network takes three.
    answered
        Side of the middle of a crop that the network gives an answer for (default: all of it).

    Attributes
    ----------
    at_once
        Batches that are drawn at once. It stays when ``batch`` is made smaller for lack of memory,
        so that drawing takes less, too.
    """

    def __init__(
        self,
        images: Sequence[TrainingImage],
        *,
        crop: int,
        batch: int,
        augmentation: Augmentation,
        in_channels: int,
        answered: int | None = None,
    ) -> None:
        self.images = tuple(images)
        self.crop, self._batch, self.in_channels = crop, batch, in_channels
        self._largest_jitter = (answered or crop) / 4
        self.augmentation = augmentation
        self._on_device = augmentation
        self._ready: list[Batch] = []
        self._state_before = augmentation.generator.get_state()
        device = self.images[0].image.device
        if device != augmentation.device:
            self._on_device = replace(augmentation, generator=torch.Generator(device))
        self.at_once = _batches_at_once(batch, crop, device)
        self._shares = torch.tensor([image.share for image in images])

    @property
    def batch(self) -> int:
        """Crops per batch; batches drawn ahead are dropped when it is set."""
        return self._batch

    @batch.setter
    def batch(self, crops: int) -> None:
        self._batch = crops
        self._ready = []

    def draw(self) -> Batch:
        """Return the next batch, on the device of the images."""
        if not self._ready:
            self._state_before = self.augmentation.generator.get_state()
            self._ready = self._draw_several(self.at_once)[::-1]
        return self._ready.pop()

    def state(self) -> tuple[Tensor, int]:
        """Return what :meth:`restore` needs: a state of the generator, and batches used since."""
        if not self._ready:
            return self.augmentation.generator.get_state(), 0
        return self._state_before, self.at_once - len(self._ready)

    def restore(self, generator: Tensor, used: int) -> None:
        """Go back to where a sampler with the same settings was."""
        self.augmentation.generator.set_state(generator)
        self._ready = []
        if self.at_once > 1:  # a run that was begun on a GPU may go on without one
            for _ in range(used):
                self.draw()

    def _draw_several(self, batches: int) -> list[Batch]:
        generator = self.augmentation.generator
        chosen = torch.multinomial(
            self._shares, batches * self.batch, replacement=True, generator=generator
        )
        if self._on_device is not self.augmentation:
            seed = int(torch.randint(2**62, (1,), generator=generator))
            self._on_device.generator.manual_seed(seed)
        parts = [
            self._draw_from(self.images[index], int(count))
            for index, count in zip(*torch.unique(chosen, return_counts=True), strict=True)
        ]
        crops = Batch(
            torch.cat([part.image for part in parts]),
            torch.cat([part.target for part in parts]),
            torch.cat([part.weight for part in parts]),
        )
        if batches == 1:
            return [crops]
        # Crops come image by image; batches have them in the order in which they were chosen.
        place = torch.argsort(torch.argsort(chosen, stable=True)).to(crops.image.device)
        return [
            Batch(crops.image[rows], crops.target[rows], crops.weight[rows])
            for rows in place.reshape(batches, self.batch)
        ]

    def _draw_from(self, source: TrainingImage, count: int) -> Batch:
        centres = self._centres(source, count)
        offsets = self._on_device.grid(count, self.crop)
        batch = sample(source, centres, offsets)
        image = self._on_device.intensities(batch.image)
        return Batch(match_channels(image, self.in_channels), batch.target, batch.weight)

    def _centres(self, source: TrainingImage, count: int) -> Tensor:
        """Draw ``(count, 2)`` crop centres in pixels of the annotation grid."""
        generator, device = self._on_device.generator, self._on_device.device
        kind, where, *jitter = torch.rand(4, count, generator=generator, device=device)
        anywhere = _picked(source.pixels, where)
        if not len(source.objects):
            return anywhere
        reach = self._largest_jitter / source.factor
        near = _picked(source.objects, where) + (torch.stack(jitter, dim=1) * 2 - 1) * reach
        return torch.where((kind < 0.5)[:, None], near, anywhere)


def _batches_at_once(batch: int, crop: int, device: torch.device) -> int:
    if device.type == "cpu":
        return 1
    return max(1, min(_DRAWN_AT_ONCE, _PIXELS_AT_ONCE // (batch * crop**2)))


def _picked(places: Tensor, where: Tensor) -> Tensor:
    """Return the rows of ``(n, 2)`` places at fractions ``where`` (0 to 1) of the list."""
    # float32 cannot count beyond 2**24, and rounds up to 1: the last row is the last one anyhow.
    rows = (where.double() * len(places)).long().clamp(max=len(places) - 1)
    return places[rows].float()


def sample(source: TrainingImage, centres: Tensor, offsets: Tensor) -> Batch:
    """Read crops: image by bicubic interpolation, target and weights by nearest neighbour.

    Parameters
    ----------
    source
        Image and annotation.
    centres
        ``(N, 2)`` (y, x) in pixels of the annotation grid.
    offsets
        ``(N, s, s, 2)`` (y, x) in pixels at the network's scale.

    Notes
    -----
    Coordinates beyond the border are mirrored at the border pixel before anything is read, so
    image, target and weights continue together, as in overlap-tile prediction.
    """
    device = source.image.device
    height, width = source.image.shape[-2:]
    size = torch.tensor([height, width], dtype=torch.float32, device=device)
    last_place = torch.tensor(source.target.shape, device=device) - 1
    centres, offsets = centres.to(device), offsets.to(device)
    # The crop's own grid is put on whole pixels: without augmentation nothing is interpolated.
    half = (offsets.shape[1] - 1) / 2
    start = torch.round((centres + 0.5) * source.factor - 0.5 - half) + half
    coordinates = mirror(start[:, None, None, :] + offsets, size)

    places = torch.floor((coordinates + 0.5) / source.factor).long().clamp(min=0)
    places = torch.minimum(places, last_place)
    rows, columns = places[..., 0], places[..., 1]

    normalised = 2 * coordinates / (size - 1).clamp(min=1) - 1
    grid = normalised.flip(-1)
    image = functional.grid_sample(
        source.image.expand(len(grid), -1, -1, -1),
        grid,
        mode="bicubic",
        padding_mode="border",
        align_corners=True,
    )
    return Batch(image, source.target[rows, columns].long(), source.weight[rows, columns])


def mirror(coordinates: Tensor, size: Tensor) -> Tensor:
    """Fold real coordinates into ``0 .. size - 1`` by mirroring at the border pixels."""
    last = (size - 1).clamp(min=0)
    period = (2 * last).clamp(min=1e-6)
    folded = torch.remainder(coordinates, period)
    return torch.minimum(torch.minimum(folded, period - folded), last)


def match_channels(image: Tensor, channels: int) -> Tensor:
    """Repeat a one-channel batch ``(N, 1, y, x)`` when the network takes more channels."""
    if image.shape[1] == channels:
        return image
    return image.expand(-1, channels, -1, -1)
