"""What the contrastive stage learns: which text belongs to which picture; the vision encoder is what is kept of it.

    {dataset: Batch of pairs} → a Pass each → its loss [], weighted by its dataset, and the same unweighted [S]

S datasets. A pass is a whole batch: its pictures are told from each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from flamingo_model.batch import Batch
from flamingo_model.contrastive import Contrastive, check_pairs
from flamingo_model.flops import Work, forward_flops, passes
from flamingo_model.losses import Targets
from flamingo_model.merge import TARGETS
from flamingo_model.objectives import Pass, Sums, dataset_weights
from flamingo_model.optim import Group
from flamingo_model.train_config import RunConfig

VISION_FILE, VISION_FOLDER = "vision.safetensors", "vision"


class ContrastiveObjective(nn.Module):
    """Both encoders; gradients of the vision encoder are clipped unit by unit (SPEC-flamingo, Training)."""

    def __init__(self, run: RunConfig, model: Contrastive) -> None:
        super().__init__()
        self.run, self.model = run, model

    def passes(self, run: RunConfig, batches: Mapping[str, Batch], numbers: Tensor) -> Iterator[Pass]:
        """Make a pass of each dataset, for pictures are told apart within one.

        A pass has one target that stands for all: `weights` are its dataset's λ and count of targets.
        """
        factors, datasets = dataset_weights(run.data), tuple(run.data.datasets)
        for name, batch in batches.items():
            check_pairs(batch)
            place = datasets.index(name) if name in datasets else 0
            weights = torch.stack([factors[place], numbers[TARGETS, place].float()])
            none = torch.zeros(0, dtype=torch.int64)
            yield Pass(batch, Targets(none, none, torch.tensor([place])), weights, len(datasets), packed=False)

    def forward(self, given: Pass, blind: bool = False) -> Sums:
        """Give this rank's part of the loss; those of all ranks add up to it."""
        loss = self.model(given.batch)
        factor, count = given.weights.unbind()
        sums = torch.zeros(given.datasets, device=loss.device)
        # The log divides sums of losses by targets, and this loss is a mean already.
        return loss * factor, sums.index_add(0, given.targets.source, (loss.detach() * count)[None])

    def groups(self) -> list[Group]:
        """Clip the vision encoder by unit and all else by the norm."""
        vision, rest = self.model.split_parameters()
        train = self.run.train
        return [
            Group("vision", vision, train.weight_decay, 0.0, train.agc),
            Group("rest", rest, train.weight_decay, train.clip),
        ]

    def parts(self) -> dict[str, nn.Module]:
        """Name the two encoders and what takes them into one space."""
        model = self.model
        projections = nn.ModuleList([model.image_projection, model.text_projection])
        return {"vision": model.vision, "text": model.text, "projections": projections}

    def blocks(self) -> list[nn.Module]:
        """List the layers of the text encoder."""
        return list(self.model.text.bert.encoder.layer)

    def units(self) -> list[nn.Module]:
        """List the vision encoder."""
        return [self.model.vision]

    def compile_blocks(self) -> None:
        """Compile the layers of the text encoder, and the vision encoder whole."""
        for module in (*self.blocks(), self.model.vision.tower):
            module.compile()

    def checkpoint_activations(self) -> None:
        """Keep nothing of a layer of the text encoder, and of the vision encoder, but its input."""
        for module in (*self.blocks(), self.model.vision):
            module.forward = partial(checkpoint, module.forward, use_reentrant=False)

    def open_cache(self) -> None:
        """Nothing is kept: the encoder learns."""

    def work(self) -> Work:
        """Count the operations of a step."""
        side_px = self.run.data.image_px
        frame = torch.empty(1, 3, side_px, side_px, device="meta")
        text = passes(self.model.text.bert.encoder.parameters(), True)
        return Work(per_token=text, per_frame=3 * forward_flops(self.model.vision, frame))

    def gates(self) -> dict[str, float]:
        """Tell the inverse temperature, which has no other place in the log."""
        return {"inverse_temperature": float(self.model.log_inverse_temperature.detach().exp())}

    def export(self, out: Path) -> str:
        """Write the vision encoder as `model.vision.weights` takes it."""
        tower: Any = self.model.vision.tower
        if hasattr(tower, "save_pretrained"):
            where = out / VISION_FOLDER
            tower.save_pretrained(where)
        else:
            where = out / VISION_FILE
            state = {f"vision.tower.{name}": tensor.detach().cpu() for name, tensor in tower.state_dict().items()}
            save_file(state, where)
        return f"model.vision.weights = '{where}' is the vision encoder"
