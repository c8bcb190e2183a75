"""Speed of prediction against MONAI's sliding window and plain PyTorch, with the same weights.

All candidates predict the same image with the same network in the same run, in turn; before any
time is taken the results are compared with the network applied to the whole mirrored image.

    python -m benchmarks.prediction                      2048 x 2048, three networks: some minutes
    python -m benchmarks.prediction --size 1024 --networks 32x3 --repeats 2
    python -m benchmarks.prediction --device cuda
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor, nn

from benchmarks.report import conditions, median_ratio, seconds_in_turn, table, write
from napari_unet.core.device import choose_device
from napari_unet.core.model import Model
from napari_unet.core.planes import Plane
from napari_unet.core.prediction import SEAM_TOLERANCE, Predictor, iter_tiles, predict
from napari_unet.core.settings import TileSettings
from napari_unet.core.unet import UNet

TF32 = (
    " On CUDA they convolve with factors rounded to 11 bits (TF32, PyTorch's default), `predict` "
    "with all bits of float32, or in half precision when asked."
)
Clock = Callable[[], float]
Image = npt.NDArray[np.float32]
ROI = 256
OURS = "`predict`"
HALF = "`predict`, half precision"
EAGER = "untiled, eager PyTorch"
#: Against the plain network on CUDA, which sums in another order.
FLOAT32_TOLERANCE = 1e-4
GOALS = {"MONAI, overlap 0.5": 4.0, "MONAI, overlap 0.25": 2.4, EAGER: 3.0}


def random_network(base: int, depth: int) -> UNet:
    """Return a batch-norm network whose statistics are those of a trained one in kind."""
    torch.manual_seed(0)
    net = UNet(1, 2, base, depth, "same", "batch", dropout=0.0)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.2)
            nn.init.normal_(module.bias, std=0.2)
    return net.eval()


def operations(net: UNet, pixels: int) -> float:
    """Return the floating-point operations of one pass over ``pixels`` (no overlap counted)."""
    total = 0.0
    widths = [net.base_channels * 2**level for level in range(net.depth + 1)]
    source = net.in_channels
    for level, width in enumerate(widths):
        share = 4.0**-level
        total += share * 9 * (source * width + width * width)
        if level < net.depth:
            total += share * (9 * 3 * width * width + 2 * width * width)
        source = width
    total += net.base_channels * net.n_classes
    return 2 * total * pixels


def matrix_peak(
    device: torch.device, clock: Clock, dtype: torch.dtype = torch.float32
) -> Callable[[], float]:
    """Return a function that measures matrix products, in operations per second.

    On the CPU the faster of MKL's and oneDNN's counts (the latter as a 1 x 1 convolution): MKL
    uses half of what some AMD processors can do.
    """
    side = 2048 if device.type == "cpu" else 8192
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    rows = a.view(1, 1, side, side).permute(0, 3, 1, 2)
    filters = b.view(side, side, 1, 1)
    products: list[Callable[[], Tensor]] = [lambda: a @ b]
    if device.type == "cpu":
        products.append(lambda: torch.nn.functional.conv2d(rows, filters))

    def measure() -> float:
        rates = []
        for product in 5 * products:
            start = clock()
            result = product()
            float(result[(0,) * result.ndim])
            rates.append(2 * side**3 / (clock() - start))
        return max(rates)

    return measure


class Contest:
    """The candidates for one network and one image."""

    def __init__(self, net: UNet, image: Image, device: torch.device) -> None:
        self.net, self.image, self.device = net, image, device
        self.model = Model(net)
        self.plane = Plane(image)
        settings = TileSettings(device="cuda" if device.type == "cuda" else "cpu")
        self.predictor = Predictor(self.model, settings)
        self.half_predictor = Predictor(self.model, replace(settings, precision="half"))
        self.scale = self.model.normalization.measure(self.plane)
        normalised = self.scale.apply(image[None])
        self.input = torch.from_numpy(normalised)[None]
        self.placed = UNet(**net.config()).eval()
        self.placed.load_state_dict(net.state_dict())
        self.placed.to(device)

    def ours(self) -> Image:
        """Predict as the plugin does, normalisation included."""
        return predict(self.predictor, self.plane)

    def half(self) -> Image:
        """Predict in half precision (CUDA only)."""
        return predict(self.half_predictor, self.plane)

    def sliding(self, overlap: float) -> Image:
        """Predict with MONAI's sliding window: Gaussian blending, one window at a time."""
        from monai.inferers import sliding_window_inference

        with torch.inference_mode():
            logits: Any = sliding_window_inference(
                self.input.to(self.device),
                (ROI, ROI),
                1,
                self.placed,
                overlap=overlap,
                mode="gaussian",
            )
            return _probabilities(logits)

    def untiled(self, mirrored: bool = False) -> Image:
        """Apply the network module to the whole image (as it is, or mirrored around)."""
        x = self.input
        halo = self.net.halo if mirrored else 0
        if mirrored:
            height, width = self.image.shape
            around = (-halo, height + halo, -halo, width + halo)
            x = torch.from_numpy(self.scale.apply(self.plane.read_mirrored(*around)))[None]
        with torch.inference_mode():
            logits = self.placed(x.to(self.device))
            if halo:
                logits = logits[..., halo:-halo, halo:-halo]
            return _probabilities(logits)

    def candidates(self) -> dict[str, Callable[[], object]]:
        """Return what is timed."""
        found: dict[str, Callable[[], object]] = {OURS: self.ours}
        if self.device.type == "cuda":
            found[HALF] = self.half
        found["MONAI, overlap 0.25"] = lambda: self.sliding(0.25)
        found["MONAI, overlap 0.5"] = lambda: self.sliding(0.5)
        found[EAGER] = self.untiled
        return found

    def check(self) -> str:
        """Compare results; end the run when ours is not the untiled one."""
        # PyTorch's own convolutions on CUDA round their factors to 11 bits unless told not to.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            truth = self.untiled(mirrored=True)
        ours = float(np.abs(self.ours() - truth).max())
        if ours > (SEAM_TOLERANCE if self.device.type == "cpu" else FLOAT32_TOLERANCE):
            raise SystemExit(f"Tiled and untiled prediction differ by {ours}.")
        text = f"Largest difference from the untiled result: `predict` {ours:.1e}"
        for overlap in (0.25, 0.5):
            theirs = float(np.abs(self.sliding(overlap) - truth).max())
            text += f", MONAI with overlap {overlap} {theirs:.1e}"
        if self.device.type == "cuda":
            text += f", half precision {float(np.abs(self.half() - truth).max()):.1e}"
        return text + "."

    def first_tile(self) -> float:
        """Return the seconds from the call to the first tile when somebody watches."""
        middle = self.image.shape[0] / 2, self.image.shape[1] / 2
        taken = []
        for _ in range(3):
            start = time.perf_counter()
            tiles = iter_tiles(
                Predictor(self.model, self.predictor.settings), self.plane, focus=lambda: middle
            )
            next(tiles)
            taken.append(time.perf_counter() - start)
            tiles.close()  # type: ignore[attr-defined]
        return statistics.median(taken)


def _probabilities(logits: Tensor) -> Image:
    result: Image = torch.softmax(logits, dim=1)[0].cpu().numpy()
    return result


def compare(
    base: int, depth: int, image: Image, device: torch.device, repeats: int, clock: Clock
) -> str:
    """Return the section of one network."""
    net = random_network(base, depth)
    contest = Contest(net, image, device)
    differences = contest.check()
    peak = matrix_peak(device, clock)
    before = peak()
    times = seconds_in_turn(contest.candidates(), repeats, clock)
    best = max(before, peak())
    half = matrix_peak(device, clock, torch.float16)() if HALF in times else best
    work = operations(net, image.size)
    rows = []
    for name, taken in times.items():
        seconds = statistics.median(taken)
        ratio = median_ratio(taken, times[OURS])
        goal = f" (goal {GOALS[name]})" if name in GOALS and device.type == "cpu" else ""
        rows.append(
            (
                name,
                f"{seconds:.2f}",
                f"{image.size / 1e6 / seconds:.2f}",
                f"{ratio:.2f}{goal}",
                f"{100 * work / seconds / (half if name == HALF else best):.0f} %",
            )
        )
    header = ("", "seconds", "megapixels/s", "time over `predict`", "share of the peak")
    half_peak = f" Half precision: {half / 1e9:,.0f} GFLOP/s." if HALF in times else ""
    return (
        f"## {base} channels, depth {depth}: {work / 1e9:,.0f} GFLOP\n\n"
        f"{table(header, rows)}\n\n{differences} First tile while somebody watches: "
        f"{contest.first_tile():.2f} s after the call. Peak of float32 matrix products in this "
        f"run: {best / 1e9:,.0f} GFLOP/s; the share counts the operations of one pass of plain "
        f"convolutions without overlap.{half_peak}"
    )


def test_image(size: int) -> Image:
    """Return smooth noise with bright spots."""
    random = np.random.default_rng(0)
    values = ndimage.gaussian_filter(random.normal(size=(size, size)).astype(np.float32), 4)
    return (1000 * (values - values.min())).astype(np.float32)


def main() -> None:
    """Compare, print the tables and write them down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=2048, help="side of the image")
    parser.add_argument("--networks", nargs="+", default=["32x3", "32x4", "64x4"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument(
        "--cpu-seconds",
        action="store_true",
        help="one thread, processor time: for a machine that others use at the same time",
    )
    parser.add_argument("--name", help="name of the result file")
    options = parser.parse_args()
    device = choose_device(options.device).device
    clock = time.process_time if options.cpu_seconds else time.perf_counter
    if options.cpu_seconds:
        torch.set_num_threads(1)
    image = test_image(options.size)
    sections = [
        f"# Prediction of {options.size} x {options.size} pixels",
        conditions("torch", "monai", "numpy")
        + f" {torch.get_num_threads()} threads, device {device.type}; medians of "
        f"{options.repeats} runs in turn" + (", processor time." if options.cpu_seconds else "."),
        f"MONAI: `sliding_window_inference`, region {ROI}, Gaussian blending, batch 1. It and "
        "eager PyTorch get the normalised image for free; `predict` measures and normalises it."
        + (TF32 if device.type == "cuda" else ""),
    ]
    for name in options.networks:
        base, depth = (int(part) for part in name.split("x"))
        sections.append(compare(base, depth, image, device, options.repeats, clock))
    default = "prediction" if device.type == "cpu" else f"prediction_{device.type}"
    write(options.name or default, "\n\n".join(sections))


if __name__ == "__main__":
    main()
