"""What the machine has: the arithmetic that is chosen, and the memory that is free."""

import platform
from pathlib import Path

import pytest
import torch

from minipolycom.hardware import cpu_has_bf16, free_memory, pick_accelerator, pick_precision


@pytest.mark.parametrize(
    ("capability", "wish", "chosen"),
    [
        ((7, 5), "auto", "16-mixed"),
        ((8, 0), "auto", "bf16-mixed"),
        ((9, 0), "auto", "bf16-mixed"),
        ((7, 5), "32-true", "32-true"),
        ((9, 0), "16-mixed", "16-mixed"),
    ],
)
def test_the_precision_on_a_gpu_is_what_its_generation_has(monkeypatch, capability, wish, chosen):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)  # a T4 says so, and emulates it
    assert pick_precision(wish, "cuda") == chosen


def test_bf16_that_would_be_emulated_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    with pytest.raises(ValueError, match="this GPU would emulate bf16, slowly: use precision='16-mixed', or 'auto'"):
        pick_precision("bf16-mixed", "cuda")
    monkeypatch.setattr("minipolycom.hardware.cpu_has_bf16", lambda: False)
    with pytest.raises(ValueError, match="this CPU would emulate bf16, slowly: use precision='32-true', or 'auto'"):
        pick_precision("bf16-mixed", "cpu")


def test_a_cpu_trains_in_fp32_unless_asked(monkeypatch):
    monkeypatch.setattr("minipolycom.hardware.cpu_has_bf16", lambda: True)
    assert pick_precision("auto", "cpu") == "32-true"
    assert pick_precision("bf16-mixed", "cpu") == "bf16-mixed"
    with pytest.raises(ValueError, match="fp16 training needs a GPU"):
        pick_precision("16-mixed", "cpu")


@pytest.mark.skipif(
    platform.system() != "Linux" or platform.machine() != "x86_64", reason="reads Linux's list of flags"
)
def test_bf16_of_the_cpu_is_what_its_flags_say():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    flags = next(line for line in lines if line.startswith("flags")).split()
    assert cpu_has_bf16() == ("avx512_bf16" in flags or "amx_tile" in flags)


def test_a_torch_without_onednn_is_asked_nothing_about_it(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "arm64")  # as macOS calls it, whose torch comes without
    monkeypatch.setattr(torch.ops, "mkldnn", None)
    assert pick_precision("auto", "cpu") == "32-true"


@pytest.mark.skipif(platform.system() != "Linux", reason="only Linux says it in a file")
def test_free_memory_is_less_than_all_of_it():
    lines = Path("/proc/meminfo").read_text().splitlines()
    total = 1024 * int(next(line for line in lines if line.startswith("MemTotal")).split()[1])
    assert 0 < free_memory("cpu") <= total


def test_an_accelerator_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_accelerator() == "cpu"
    with pytest.raises(ValueError, match="no CUDA device on this machine"):
        pick_accelerator("cuda")
