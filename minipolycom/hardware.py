"""What the machine can do, and the two settings that decide how fast torch is on a shared CPU.

Nothing here imports torch before `tune_cpu` has had its say.
"""

import ctypes
import os
import platform
import sys
from pathlib import Path

from minipolycom.checking import check_known

ACCELERATORS = ("auto", "cpu", "cuda")
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed", "64-true")

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # names and numbers of glibc's malloc.h
_LARGEST_INT = 2**31 - 1


def tune_cpu(enabled: bool = True) -> str:
    """Make torch fast on a CPU that other programs use too, and return one line that says what was done.

    - OMP_WAIT_POLICY=passive: an OpenMP thread that waits for its siblings sleeps instead of spinning. It is read
      when torch is first imported, so it is set only before that, and never over the user's own choice.
    - glibc's mmap and trim thresholds at their largest: big tensors are reused from the heap instead of being mapped
      and unmapped by each operation. The price: memory once used stays with the process.

    Off with `enabled=False` or MINIPOLYCOM_TUNE=0 in the environment.
    """
    if not enabled or os.environ.get("MINIPOLYCOM_TUNE") == "0":
        return "CPU settings: left alone"
    done = []
    if "torch" not in sys.modules:
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    policy = os.environ.get("OMP_WAIT_POLICY")
    if policy:
        done.append(f"OpenMP threads wait {policy.lower()}ly")
    if platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        if mallopt(_M_MMAP_THRESHOLD, _LARGEST_INT) and mallopt(_M_TRIM_THRESHOLD, _LARGEST_INT):
            done.append("large tensors stay on the heap")
    return f"CPU settings: {', '.join(done) or 'nothing to set here'} (off: MINIPOLYCOM_TUNE=0)"


def pick_accelerator(wish: str = "auto") -> str:
    """The wish, "cuda" or "cpu", or the best there is. Raises ValueError for a GPU that is not there."""
    import torch

    check_known("accelerator", wish, ACCELERATORS)
    if wish == "cuda" and not torch.cuda.is_available():
        raise ValueError("no CUDA device on this machine: use accelerator='cpu', or 'auto'")
    if wish == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return wish


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies in bf16 itself (AVX512-BF16, AMX, or Arm's bf16), instead of emulating it slowly."""
    import torch

    if platform.machine() == "aarch64":  # the only place to ask: a torch for macOS has no oneDNN
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def pick_precision(wish: str = "auto", accelerator: str = "cpu") -> str:
    """Lightning's name for the arithmetic of training: the wish, or what the chip really has.

    bf16 needs a GPU of compute capability 8.0: older ones report it and emulate it slowly. On those, fp16 with loss
    scaling; on a CPU, fp32. Raises ValueError for an unknown precision, for fp16 on a CPU, and for bf16 where it would
    be emulated.
    """
    import torch

    check_known("precision", wish, PRECISIONS)
    on_cpu = accelerator == "cpu"
    has_bf16 = cpu_has_bf16() if on_cpu else torch.cuda.get_device_capability() >= (8, 0)
    if wish == "16-mixed" and on_cpu:
        raise ValueError("fp16 training needs a GPU: use precision='32-true' on a CPU")
    if wish == "bf16-mixed" and not has_bf16:
        chip, instead = ("CPU", "32-true") if on_cpu else ("GPU", "16-mixed")
        raise ValueError(f"this {chip} would emulate bf16, slowly: use precision='{instead}', or 'auto'")
    if wish != "auto":
        return wish
    if on_cpu:
        return "32-true"
    return "bf16-mixed" if has_bf16 else "16-mixed"


def free_memory(accelerator: str = "cpu") -> int | None:
    """Bytes that a program may still take on the accelerator; None where the system does not say."""
    if accelerator == "cuda":
        import torch

        return torch.cuda.mem_get_info()[0]
    meminfo, cgroup = Path("/proc/meminfo"), Path("/sys/fs/cgroup")
    if not meminfo.is_file():
        return None
    free = [1024 * int(line.split()[1]) for line in meminfo.read_text().splitlines() if line.startswith("MemAvailable")]
    limit = cgroup / "memory.max"
    if limit.is_file() and limit.read_text().strip() != "max":  # a container may have less than its machine
        cached = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())["file"]
        free.append(int(limit.read_text()) - int((cgroup / "memory.current").read_text()) + int(cached))
    return min(free, default=None)
