"""Trainers of others over the same batches: open_flamingo and lucidrains' flamingo-pytorch, built to the same sizes.

    python bench/peer_trainers.py open_flamingo '{"size": {...}, "batches": FILE, ...}'     (bench/train.py runs this)

Imports nothing of the project: it runs in an environment of its own. Neither package is changed. A step is what
open_flamingo's own training loop does: a forward and a backward pass of each dataset, one after the other, the
embedding's gradient masked but for two rows, the gradient clipped, AdamW. flamingo-pytorch has no loop of its own, so
it gets the same one. Images come normalised and padded to as many as a row can have, as open_flamingo's loader
gives them, outside of what is timed.

B rows, L tokens, N images of a row, S pixels a side.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from train_clock import DEVIATION, MEAN, Memory, Rows, Stopwatch, parameters, read_batches, serve

DATASETS = ("pairs", "interleaved")
"""In the order of open_flamingo's loop."""
IGNORED = -100
Given = dict[str, Tensor]
"""`images` [B, N, 1, 3, S, S], `tokens`, `mask` and `labels` [B, L]."""
Loss = Callable[[nn.Module, Given], Tensor]


# --- batches ---------------------------------------------------------------------------------------------------------


def convert(rows: Rows, images: int, media_token: int, pinned: bool) -> Given:
    """Make of a batch what both packages take: one token for an image, where a tag begins, and every row full."""
    tokens, labels = rows["tokens"].clone(), rows["tokens"].clone()
    labels[~rows["loss"]] = IGNORED
    begins = rows["image_of"].diff(dim=1, prepend=torch.zeros_like(rows["image_of"][:, :1])) > 0
    assert int(begins.sum()) == len(rows["media_row"]), "an image whose tag is not in its row"
    tokens[begins] = media_token
    mean, deviation = (torch.tensor(three).view(3, 1, 1) for three in (MEAN, DEVIATION))
    padded = torch.zeros(len(tokens), images, *rows["frames"].shape[1:])
    padded[rows["media_row"], rows["media_number"].long() - 1] = (rows["frames"] / 255 - mean) / deviation
    given = {"images": padded.unsqueeze(2), "tokens": tokens, "mask": (rows["segment"] > 0).long(), "labels": labels}
    return {name: tensor.pin_memory() if pinned else tensor for name, tensor in given.items()}


# --- models ----------------------------------------------------------------------------------------------------------


def import_open_clip() -> Any:
    """Import open_clip, declaring the operators that it looks for where its torchvision, made for CUDA, cannot."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for name in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[name]
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float threshold) -> Tensor")
    import open_clip

    return open_clip


def make_vision(size: SimpleNamespace) -> nn.Module:
    """Make CLIP's image encoder, with the text encoder that open_flamingo drops as small as can be."""
    vision = {"image_size": size.image_px, "layers": size.vision_layers, "width": size.vision_width}
    vision |= {"patch_size": size.patch_px, "head_width": size.vision_width // size.vision_heads}
    text = {"context_length": 8, "vocab_size": 64, "width": 64, "heads": 1, "layers": 1}
    clip = import_open_clip().CLIP(size.vision_width, vision, text)
    clip.visual.output_tokens = True
    return clip


def open_flamingo(size: SimpleNamespace) -> tuple[nn.Module, list[dict[str, Any]], Loss]:
    """Build open_flamingo on a GPT-NeoX, with the parameters that its own factory and loop would train."""
    clip = make_vision(size)
    from open_flamingo.src.factory import FlamingoLMMixin, extend_instance
    from open_flamingo.src.flamingo import Flamingo
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    settings = {"num_hidden_layers": size.layers, "num_attention_heads": size.heads, "vocab_size": size.vocab}
    config = GPTNeoXConfig(hidden_size=size.width, intermediate_size=4 * size.width, use_cache=False, **settings)
    lm = GPTNeoXForCausalLM(config)
    extend_instance(lm, FlamingoLMMixin)
    lm.set_decoder_layers_attr_name("gpt_neox.layers")
    model = Flamingo(clip, lm, size.vocab - 2, size.vocab - 1, vis_dim=size.vision_width)
    model.requires_grad_(False)
    model.perceiver.requires_grad_(True)
    lm.gated_cross_attn_layers.requires_grad_(True)
    lm.get_input_embeddings().requires_grad_(True)
    decayed = list(lm.gated_cross_attn_layers.parameters())
    others = [*model.perceiver.parameters(), *lm.get_input_embeddings().parameters()]

    def loss(called: nn.Module, given: Given) -> Tensor:
        return called(given["images"], given["tokens"], given["mask"], given["labels"])[0]

    return model, [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}], loss


class Features(nn.Module):
    """CLIP's image encoder as flamingo-pytorch wants one: features of the language model's width."""

    def __init__(self, visual: nn.Module, width: int, wanted: int) -> None:
        super().__init__()
        self.visual, self.project = visual, nn.Linear(width, wanted, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Give features [F, P, D] of images [F, 3, S, S]."""
        return self.project(self.visual(images)[1])


def lucidrains(size: SimpleNamespace) -> tuple[nn.Module, list[dict[str, Any]], Loss]:
    """Build flamingo-pytorch on its own language model, whose blocks are no larger than those of a GPT-NeoX."""
    features = Features(make_vision(size).visual, size.vision_width, size.width)
    from flamingo_pytorch import FlamingoPaLM

    attention = (2 * 8 + 2) * 64 * size.width  # its heads share keys and values
    model = FlamingoPaLM(
        num_tokens=size.vocab,
        dim=size.width,
        depth=size.layers,
        ff_mult=(12 * size.width**2 - attention) // (3 * size.width**2),
        media_token_id=size.vocab - 1,
        cross_attn_every=1,
        img_encoder=features,
        perceiver_num_latents=size.latents,
        perceiver_depth=size.resampler_layers,
    )
    # It has as many rows as images of a row, but no setting for them: four.
    rows = nn.Parameter(torch.randn(size.images, 1, size.width))
    model.perceiver_resampler.media_pos_emb = rows
    crossing = [block for _, block in model.layers]
    model.requires_grad_(False)
    for part in (model.perceiver_resampler, *crossing):
        part.requires_grad_(True)

    def loss(called: nn.Module, given: Given) -> Tensor:
        logits = called(given["tokens"], images=given["images"].squeeze(2))
        return cross_entropy(logits[:, :-1].flatten(0, 1).float(), given["labels"][:, 1:].flatten())

    groups = [{"params": [one for block in crossing for one in block.parameters()], "weight_decay": 0.1}]
    return model, [*groups, {"params": list(model.perceiver_resampler.parameters()), "weight_decay": 0.0}], loss


PEERS = {"open_flamingo": open_flamingo, "lucidrains": lucidrains}


# --- a step ----------------------------------------------------------------------------------------------------------


class Trainer:
    """A peer, its optimiser, and its batches in turn."""

    def __init__(self, name: str, given: SimpleNamespace, size: SimpleNamespace, watch: Stopwatch) -> None:
        device = torch.device(given.device)
        self.model, groups, self.loss = PEERS[name](size)
        self.model.to(device).train()
        self.called = torch.compile(self.model, dynamic=False) if given.compiled else self.model
        self.optimizer = torch.optim.AdamW(groups, lr=1e-4)
        self.autocast = partial(torch.autocast, device.type, torch.bfloat16, enabled=given.dtype == "bf16")
        self.watch, self.kept = watch, (size.vocab - 2, size.vocab - 1)
        if not given.compiled:
            parts = {
                "open_flamingo": ("vision_encoder", "perceiver"),
                "lucidrains": ("img_encoder", "perceiver_resampler"),
            }
            for part, told in zip(parts[name], ("vision", "resampler"), strict=True):
                watch.watch(getattr(self.model, part), told)

    def step(self, batches: dict[str, Given], weights: dict[str, float]) -> Tensor:
        """Take a training step."""
        with self.watch.measure("step"):
            return self.update(batches, weights)

    def update(self, batches: dict[str, Given], weights: dict[str, float]) -> Tensor:
        """Go through the datasets one by one, then move the weights."""
        total = torch.zeros((), device=next(self.model.parameters()).device)
        for name in DATASETS:
            with self.watch.measure("passes"):
                with self.watch.measure("forward"), self.autocast():
                    given = {of: tensor.to(total.device, non_blocking=True) for of, tensor in batches[name].items()}
                    loss = self.loss(self.called, given) * weights[name]
                loss.backward()
            total += loss.detach()
        with self.watch.measure("optimiser"):
            self.mask_embedding()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
        return total

    def mask_embedding(self) -> None:
        """Leave of the embedding's gradient the rows of the new tokens."""
        for part in self.model.modules():
            if isinstance(part, nn.Embedding) and part.weight.grad is not None:
                mask = torch.zeros_like(part.weight.grad)
                mask[list(self.kept)] = 1
                part.weight.grad = part.weight.grad * mask


def main() -> None:
    name, given = sys.argv[1], SimpleNamespace(**json.loads(sys.argv[2]))
    warnings.simplefilter("ignore")
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    size, device = SimpleNamespace(**given.size), torch.device(given.device)
    images = {"interleaved": size.images, "pairs": 1}
    steps = [
        {of: convert(rows, images[of], size.vocab - 1, device.type == "cuda") for of, rows in step.items()}
        for step in read_batches(given.batches)
    ]
    memory, watch = Memory(device), Stopwatch(device)
    trainer = Trainer(name, given, size, watch)
    tables = [part.weight for part in trainer.model.modules() if isinstance(part, nn.Embedding)]
    embedding = sum(table.numel() for table in tables if table.requires_grad)
    facts = parameters(trainer.model) | {"embedding": embedding}
    serve(lambda number: trainer.step(steps[number], given.weights), len(steps), watch, memory, facts)


if __name__ == "__main__":
    main()
