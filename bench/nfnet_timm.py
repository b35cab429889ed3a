"""Our NFNet beside timm's with the same weights: the greatest difference of their features.

    python -m venv build/peers/timm
    build/peers/timm/bin/pip install timm==1.0.31 torch==2.13.0 torchvision==0.28.0
    python bench/nfnet_timm.py f0 f1

timm runs in the environment of its own, where there is one; otherwise there is nothing to compare and this says so.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file

from flamingo_model.presets import VisionConfig
from flamingo_model.vision import make_vision

PEER = Path(__file__).parents[1] / "build" / "peers" / "timm" / "bin" / "python"
LARGEST = 1e-4
# Biases, gains and skip gains are 0 or 1 at the start: here they differ, so that each is looked at. An odd side too.
THEIRS = """
import sys, timm, torch
from safetensors.torch import save_file
torch.manual_seed(0)
model = timm.create_model(f"dm_nfnet_{sys.argv[1]}", pretrained=False).eval()
with torch.no_grad():
    for name, value in model.named_parameters():
        if name.endswith(("bias", "gain")):
            value.add_(0.3 * torch.randn_like(value))
    found = {}
    for side in (96, 75):
        pixels = torch.randn(2, 3, side, side)
        grid = model.forward_features(pixels)
        found |= {f"pixels{side}": pixels, f"features{side}": grid.flatten(2).transpose(1, 2).contiguous()}
save_file(model.state_dict(), sys.argv[2])
save_file(found, sys.argv[3])
"""


def difference(variant: str, frozen: bool) -> float:
    """Tell the greatest difference, as a part of the features' deviation."""
    with TemporaryDirectory() as folder:
        weights, results = str(Path(folder, "weights.safetensors")), str(Path(folder, "results.safetensors"))
        subprocess.run([PEER, "-c", THEIRS, variant, weights, results], check=True)
        encoder = make_vision(VisionConfig(variant=variant, weights=weights, trainable=not frozen)).eval()
        found = load_file(results)
    worst = 0.0
    with torch.no_grad():
        for side in (96, 75):
            theirs = found[f"features{side}"]
            ours = encoder(found[f"pixels{side}"])
            worst = max(worst, float((ours - theirs).abs().max() / theirs.std()))
    return worst


def main() -> None:
    if not PEER.exists():
        print("skipped: timm has no environment in build/peers/timm")
        return
    wrong = False
    for variant in sys.argv[1:] or ["f0"]:
        for frozen in (False, True):
            worst = difference(variant, frozen)
            wrong |= worst > LARGEST
            print(f"nfnet {variant} {'frozen   ' if frozen else 'trainable'} largest difference {worst:.1e} deviations")
    sys.exit(wrong)


if __name__ == "__main__":
    main()
