"""The peak of memory of this process or of its GPU."""

from __future__ import annotations

from pathlib import Path


def reset_peak(device: str) -> bool:
    """Start the peak of memory anew; False where this system cannot, so that the peak would not be one run's."""
    if device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
        return True
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # Linux: VmHWM is what is resident now
    except OSError:
        return False
    return True


def peak_mb(device: str) -> float:
    """The most memory since `reset_peak`, in MiB: on a GPU what torch allocated, else what the process held."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated() / 2**20
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines())
    return float(status["VmHWM"].split()[0]) / 2**10  # from KiB
