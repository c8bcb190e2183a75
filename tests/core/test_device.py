from __future__ import annotations

from pathlib import Path

import pytest
import torch

from napari_unet.core import device as device_module
from napari_unet.core.device import (
    choose_device,
    cpu_threads,
    cuda_obstacle,
    describe_memory,
    fast_bfloat16,
    free_memory,
    is_out_of_memory,
    mps_obstacle,
)
from napari_unet.core.errors import InputError


def test_cpu_when_asked_for() -> None:
    chosen = choose_device("cpu")
    assert chosen.device == torch.device("cpu")
    assert chosen.name == "cpu"
    assert chosen.reason.endswith(".")


def test_reason_when_the_build_has_no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Complaint 22: the CPU is never used without saying why."""
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(device_module.shutil, "which", lambda _: None)
    monkeypatch.setattr(device_module, "mps_obstacle", lambda: "none")
    assert choose_device("auto").reason == "CPU: this PyTorch build has no CUDA support."


def test_reason_names_a_gpu_that_lies_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Complaint 22: an NVIDIA driver with a CPU build of PyTorch is pointed out."""
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(device_module.shutil, "which", lambda _: "/usr/bin/nvidia-smi")
    assert "install a CUDA build" in (cuda_obstacle() or "")


def test_reason_when_gpus_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "CUDA_VISIBLE_DEVICES" in (cuda_obstacle() or "")


def test_reason_when_no_gpu_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert cuda_obstacle() == "no GPU with a working driver was found"


def test_reason_when_a_gpu_does_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no kernel image is available\nmore lines")

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "zeros", fail)
    assert cuda_obstacle() == "a GPU was found but does not work (no kernel image is available)"


def test_working_gpu_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_module, "cuda_obstacle", lambda: None)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")
    chosen = choose_device("auto")
    assert (chosen.name, chosen.reason) == ("cuda", "GPU: Some GPU.")


def test_asking_for_a_missing_gpu_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_module, "cuda_obstacle", lambda: "no GPU was found")
    with pytest.raises(InputError, match="'cuda' cannot be used: no GPU was found"):
        choose_device("cuda")


def test_unknown_device() -> None:
    with pytest.raises(InputError, match="must be auto, cpu, cuda or mps"):
        choose_device("tpu")


def test_apple_gpu_obstacles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_built", lambda: False)
    assert "no support" in (mps_obstacle() or "")
    monkeypatch.setattr(torch.backends.mps, "is_built", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert mps_obstacle() == "no Apple GPU was found"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_out_of_memory_is_recognised(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_free_memory_of_the_machine_is_plausible() -> None:
    assert 2**20 < free_memory(torch.device("cpu")) < 2**50


def test_container_limit_bounds_free_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "memory.max").write_text("3000000\n")
    (tmp_path / "memory.current").write_text("1000000\n")
    headroom = device_module._cgroup_headroom(tmp_path)
    assert headroom == 2_000_000
    monkeypatch.setattr(device_module, "_cgroup_headroom", lambda: headroom)
    assert free_memory(torch.device("cpu")) == 2_000_000


@pytest.mark.parametrize(
    ("folder", "limit", "usage", "cached"),
    [
        ("", "memory.max", "memory.current", "inactive_file"),
        ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ],
)
def test_files_kept_in_a_containers_memory_are_not_in_the_way(
    tmp_path: Path, folder: str, limit: str, usage: str, cached: str
) -> None:
    """Complaint 12: after a large image was read a container looks full; tiles stay large."""
    place = tmp_path / folder
    place.mkdir(exist_ok=True)
    (place / limit).write_text("8000000\n")
    (place / usage).write_text("7900000\n")
    (place / "memory.stat").write_text(f"anon 900000\nfile 7000000\n{cached} 6000000\n")
    assert device_module._cgroup_headroom(tmp_path) == 6_100_000


def test_container_without_limit(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert device_module._cgroup_headroom(tmp_path) is None


def test_cpu_threads_keep_a_core_free() -> None:
    everything = cpu_threads(reserve=0)
    assert everything >= 1
    assert cpu_threads(reserve=1) == max(1, everything - 1)
    assert cpu_threads(reserve=10_000) == 1


def test_choosing_a_device_leaves_the_thread_count_alone() -> None:
    before = torch.get_num_threads()
    choose_device("auto")
    assert torch.get_num_threads() == before


def test_memory_in_words() -> None:
    assert describe_memory(3 * 2**29) == "1.5 GiB"


@pytest.mark.parametrize(("vector", "matrix"), [(True, False), (False, True), (False, False)])
def test_bfloat16_needs_instructions_of_the_processor(
    monkeypatch: pytest.MonkeyPatch, vector: bool, matrix: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: vector, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: matrix, raising=False)
    assert fast_bfloat16("cpu") is (vector or matrix)
    assert not fast_bfloat16("mps")


def test_bfloat16_is_off_where_pytorch_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert not fast_bfloat16("cpu")
