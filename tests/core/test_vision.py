"""The door to torchvision, in fresh processes: beside a torch with its operators and beside one without."""

import subprocess
import sys

import pytest
import torch

from lossbench.core.vision import torchvision

DOOR = "from lossbench.core.vision import torchvision\n"
FRESH = {
    "first and twice": f"{DOOR}door = torchvision\n{DOOR}assert door is torchvision\n"
    "import torchvision\nassert door is torchvision",
    "after a direct import that may fail": f"try:\n    import torchvision\nexcept RuntimeError:\n    pass\n{DOOR}",
}
WORKS = """
import torch
from torchvision import datasets, ops, transforms
box = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
assert ops.box_iou(box, box + 1).item() == torch.tensor(1 / 7).item()
print("works")
"""


@pytest.mark.parametrize("start", FRESH.values(), ids=FRESH.keys())
def test_torchvision_loads_in_a_fresh_process(start):
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"{start}\n{WORKS}"], capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["works"]


@pytest.mark.parametrize(
    ("other", "iou"),
    [([0, 0, 4, 2], 1.0), ([2, 0, 6, 2], 1 / 3), ([0, 1, 4, 3], 1 / 3), ([4, 2, 5, 5], 0.0), ([1, 0, 3, 2], 0.5)],
)
def test_box_iou(other, iou):
    found = torchvision.ops.box_iou(torch.tensor([[0.0, 0.0, 4.0, 2.0]]), torch.tensor([other], dtype=torch.float32))
    assert found.item() == pytest.approx(iou)


def test_sigmoid_focal_loss_without_focus_is_bce():
    logits, y = torch.tensor([-2.0, 0.5, 3.0]), torch.tensor([0.0, 1.0, 0.0])
    found = torchvision.ops.sigmoid_focal_loss(logits, y, alpha=-1, gamma=0)
    reference = torch.nn.functional.binary_cross_entropy_with_logits(logits, y, reduction="none")
    torch.testing.assert_close(found, reference)
