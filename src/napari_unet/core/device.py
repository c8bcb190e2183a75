"""Which device computes, why, and how much it can hold."""

from __future__ import annotations

import logging
import os
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from napari_unet.core.errors import InputError, first_line

logger = logging.getLogger(__name__)

_GIB = 2**30
#: Held while a CUDA graph is recorded: PyTorch must not give memory back to the driver meanwhile.
recording = threading.Lock()


@dataclass(frozen=True)
class Device:
    """Where the network runs.

    Attributes
    ----------
    device
        The PyTorch device.
    name
        ``"cpu"``, ``"cuda"`` or ``"mps"``.
    reason
        One sentence for the user: what was chosen and why.
    """

    device: torch.device
    name: str
    reason: str


def choose_device(name: str = "auto") -> Device:
    """Choose where to compute.

    Parameters
    ----------
    name
        ``"auto"`` takes a working GPU where there is one, ``"cpu"``, ``"cuda"`` or ``"mps"`` ask
        for one kind.

    Raises
    ------
    InputError
        If the device asked for cannot be used here, or the name is not known.
    """
    if name == "cpu":
        return Device(torch.device("cpu"), "cpu", "CPU: chosen in the settings.")
    if name not in ("auto", "cuda", "mps"):
        raise InputError(f"The device must be auto, cpu, cuda or mps, not {name!r}.")
    obstacles = {}
    for kind, obstacle in (("cuda", cuda_obstacle), ("mps", mps_obstacle)):
        if name in ("auto", kind):
            why_not = obstacle()
            if why_not is None:
                return Device(torch.device(kind), kind, f"GPU: {_gpu_name(kind)}.")
            obstacles[kind] = why_not
    if name != "auto":
        raise InputError(f"The device {name!r} cannot be used: {obstacles[name]}; choose 'auto'.")
    return Device(torch.device("cpu"), "cpu", f"CPU: {obstacles['cuda']}.")


def fast_bfloat16(device: torch.device | str = "cpu") -> bool:
    """Return whether a device multiplies bfloat16 numbers faster than single precision.

    On a CPU that needs AVX-512 BF16 or AMX instructions; without them PyTorch would emulate
    bfloat16 and be slower. There a training step takes about half the time.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    if kind != "cpu":
        return False
    checks = (
        getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile")
    )
    return any(check is not None and bool(check()) for check in checks)


def cuda_obstacle() -> str | None:
    """Return why CUDA cannot be used (half a sentence), or None when it works."""
    if torch.version.cuda is None and getattr(torch.version, "hip", None) is None:
        if shutil.which("nvidia-smi"):
            return (
                "there is an NVIDIA driver, but this PyTorch build has no CUDA support "
                "(install a CUDA build from pytorch.org to use the GPU)"
            )
        return "this PyTorch build has no CUDA support"
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return "the GPUs are hidden by the environment variable CUDA_VISIBLE_DEVICES"
    if not torch.cuda.is_available():
        return "no GPU with a working driver was found"
    try:
        torch.zeros(1, device="cuda").add_(1).cpu()
    except RuntimeError as error:
        return f"a GPU was found but does not work ({first_line(error)})"
    return None


def mps_obstacle() -> str | None:
    """Return why Apple's GPU cannot be used (half a sentence), or None when it works."""
    if not torch.backends.mps.is_built():
        return "this PyTorch build has no support for Apple GPUs"
    if not torch.backends.mps.is_available():
        return "no Apple GPU was found"
    try:
        torch.zeros(1, device="mps").add_(1).cpu()
    except RuntimeError as error:
        return f"an Apple GPU was found but does not work ({first_line(error)})"
    return None


def _gpu_name(kind: str) -> str:
    return torch.cuda.get_device_name() if kind == "cuda" else "Apple GPU"


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception means that a device (or the machine) has no memory left."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and (
        "out of memory" in text or "not enough memory" in text or "can't allocate memory" in text
    )


def release_memory(device: torch.device) -> None:
    """Give cached memory of a GPU back to the driver."""
    if device.type == "cuda":
        with recording:
            torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def free_memory(device: torch.device) -> int:
    """Return the bytes that can still be allocated on a device (an estimate)."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + cached)
    if device.type == "mps":
        limit = torch.mps.recommended_max_memory()
        return max(0, int(limit - torch.mps.current_allocated_memory()))
    available = int(psutil.virtual_memory().available)
    headroom = _cgroup_headroom()
    return available if headroom is None else min(available, headroom)


def _cgroup_headroom(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return what a container's memory limit still allows, or None without a limit.

    Files that were read or written lately count as used memory, but the system drops them as soon
    as a program asks for more; the inactive ones are free memory, as in what ``docker stats`` says.
    """
    for limit_name, usage_name, cached_name in (
        ("memory.max", "memory.current", "inactive_file"),
        (
            "memory/memory.limit_in_bytes",
            "memory/memory.usage_in_bytes",
            "total_inactive_file",
        ),
    ):
        try:
            limit = int((root / limit_name).read_text())
            usage = int((root / usage_name).read_text())
        except (OSError, ValueError):  # no such file, or "max"
            continue
        if limit < 2**50:
            cached = _cgroup_figure((root / limit_name).with_name("memory.stat"), cached_name)
            return max(0, limit - max(0, usage - cached))
    return None


def _cgroup_figure(path: Path, name: str) -> int:
    """Return one figure of a ``memory.stat`` file, 0 when it is not there."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.split()[:1] == [name]), 0)


def cpu_threads(reserve: int = 1) -> int:
    """Return how many threads to compute with so that ``reserve`` cores stay free (at least 1)."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else (os.cpu_count() or 1)
    return max(1, cores - reserve)


def describe_memory(size: int) -> str:
    """Return a number of bytes for a message, in GiB."""
    return f"{size / _GIB:.1f} GiB"
