"""The peak memory of this process or of its GPU."""

from __future__ import annotations

from pathlib import Path


def reset_peak(device: str) -> bool:
    """Reset the peak memory; False where the system cannot, so that the peak includes what came before."""
    if device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
        return True
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # Linux: sets VmHWM to what is resident now
    except OSError:
        return False
    return True


def peak_mb(device: str) -> float:
    """The peak memory since `reset_peak`, in MiB: on a GPU as allocated by torch, else of the whole process."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated() / 2**20
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines())
    return float(status["VmHWM"].split()[0]) / 2**10  # from KiB
