"""NFNets F0 to F6, and a tiny one: convolutions whose filters are standardised, in place of normalised activations.

    pixels [F, 3, S, S], normalised → Nfnet → features [F, P, D_v], a grid row by row

F frames, S pixels a side, P positions of a frame, D_v width; inside, x is [F, C, H, W]: channels of a grid. The paper
is "High-Performance Large-Scale Image Recognition Without Normalization" (arXiv 2102.06171); without its classifier.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional

NO_WEIGHTS = "no_weights"
UNREADABLE_WEIGHTS = "unreadable_weights"
OTHER_MODEL = "other_model"


class BadWeights(ValueError):  # noqa: N818 (named as BadImage is)
    """Weights that are refused; `reason` is a constant of this module, the text one line for a person."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {' '.join(detail.split())[:300]}")
        self.reason = reason


ALPHA = 0.2  # what a residual branch is multiplied by (NFNet paper, sec. 2)
GELU_GAIN = 1.7015043497085571  # 1 / deviation of gelu(x), x ~ N(0, 1), as published (from samples; exactly 1.70093)
EPSILON = 1e-5  # added to the variance of a filter


@dataclass(frozen=True, slots=True)
class NfnetShape:
    """The sizes of an NFNet."""

    depths: tuple[int, ...]
    """Blocks of each stage; every stage but the first halves the grid."""
    widths: tuple[int, ...] = (256, 512, 1536, 1536)
    """Channels of each stage; half as many inside its blocks. The features have twice the last."""
    stem: int = 128
    """Channels of the stem, whose stride is 4."""
    group: int = 128
    """Channels of a group of the 3x3 convolutions."""
    drop: float = 0.25
    """Stochastic depth: how often the last block is left out in training; earlier ones less, in proportion."""


NFNETS: Mapping[str, NfnetShape] = {
    "tiny": NfnetShape(depths=(1, 1, 2), widths=(64, 128, 192), stem=32, group=32, drop=0.0),
    **{f"f{n}": NfnetShape(depths=(n + 1, 2 * n + 2, 6 * n + 6, 3 * n + 3)) for n in range(7)},
}
"""F0 to F6 as published; `tiny` (stride 16) learns in minutes from pictures of 64 px on two cores."""


class Conv(nn.Conv2d):
    """A convolution whose filters have mean 0 and variance `gain`^2 / inputs; keeps the variance of its input.

    `scale` multiplies the filters: the gain of the activation before it, which costs less there than on the pixels.
    Padded as TensorFlow does ("SAME"), so that a stride of 2 looks at the right and lower edge of an even grid.
    """

    gain: Tensor | None

    def __init__(
        self, inputs: int, outputs: int, side: int, stride: int = 1, groups: int = 1, scale: float = 1
    ) -> None:
        super().__init__(inputs, outputs, side, stride, groups=groups)
        self.scale = scale / math.sqrt(inputs // groups * side * side)
        self.gain = nn.Parameter(torch.ones(outputs, 1, 1, 1))

    def reset_parameters(self) -> None:
        """Begin from random filters; torch calls this."""
        reset(self)

    def filters(self) -> Tensor:
        """Give the filters as they are applied [outputs, inputs of a group, side, side]."""
        if self.gain is None:
            return self.weight
        var, mean = torch.var_mean(self.weight, (1, 2, 3), correction=0, keepdim=True)
        return (self.weight - mean) * (self.gain * self.scale * torch.rsqrt(var + EPSILON))

    def fold(self) -> None:
        """Keep the filters as they are applied, instead of what they are made of."""
        if self.gain is not None:
            with torch.no_grad():
                self.weight.copy_(self.filters())
            self.gain = None

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        margin = self.kernel_size[0] // 2
        if self.stride[0] == 2 and margin:
            left, above = x.shape[3] % 2, x.shape[2] % 2
            x, margin = functional.pad(x, (left, 1, above, 1)), 0
        return functional.conv2d(x, self.filters(), self.bias, self.stride, padding=margin, groups=self.groups)


def reset(layer: nn.Conv2d) -> None:
    """Begin from filters of variance 1 / inputs, and biases of 0."""
    nn.init.normal_(layer.weight, std=1 / math.sqrt(layer.weight[0].numel()))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


class SqueezeExcite(nn.Module):
    """Gives each channel of a frame a factor from 0 to 1, from the means of all channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(width, width // 2, 1)
        self.fc2 = nn.Conv2d(width // 2, width, 1)
        reset(self.fc1)
        reset(self.fc2)

    def forward(self, x: Tensor) -> Tensor:
        """Give the factors [F, C, 1, 1]."""
        hidden = functional.relu(self.fc1(x.mean((2, 3), keepdim=True)))
        return torch.sigmoid(self.fc2(hidden))


class Shortcut(nn.Module):
    """What takes the place of a block's input where its size changes."""

    def __init__(self, inputs: int, outputs: int, stride: int, scale: float) -> None:
        super().__init__()
        self.stride = stride
        self.conv = Conv(inputs, outputs, 1, scale=scale)

    def forward(self, x: Tensor) -> Tensor:
        """Average 2x2 pixels where the grid is halved, and change the channels."""
        if self.stride > 1:
            x = functional.avg_pool2d(x, 2, self.stride, ceil_mode=True, count_include_pad=False)
        out: Tensor = self.conv(x)
        return out


class Block(nn.Module):
    """x + alpha * skipinit * branch(x / deviation): a bottleneck without normalisation, closed at the start.

    `variance` is what the input is expected to have at the start; with skipinit at 0 the block does nothing.
    """

    def __init__(self, inputs: int, width: int, stride: int, group: int, variance: float, drop: float) -> None:
        super().__init__()
        inside, groups = width // 2, width // 2 // group
        first = GELU_GAIN / math.sqrt(variance)
        self.drop = drop
        self.downsample = Shortcut(inputs, width, stride, first) if stride > 1 or inputs != width else None
        self.conv1 = Conv(inputs, inside, 1, scale=first)
        self.conv2 = Conv(inside, inside, 3, stride, groups, GELU_GAIN)
        self.conv2b = Conv(inside, inside, 3, 1, groups, GELU_GAIN)
        self.conv3 = Conv(inside, width, 1, scale=GELU_GAIN)
        self.attn_last = SqueezeExcite(width)
        self.skipinit_gain = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Add the branch, times 2 so that a factor of 1/2 from the squeeze-excite changes nothing."""
        start = functional.gelu(x)
        shortcut = x if self.downsample is None else self.downsample(start)
        out = self.conv1(start)
        for conv in (self.conv2, self.conv2b, self.conv3):
            out = conv(functional.gelu(out))
        factor = self.attn_last(out) * (2 * ALPHA * self.skipinit_gain)
        if self.training and self.drop:
            kept = torch.rand(len(x), 1, 1, 1, device=x.device) >= self.drop
            factor = factor * (kept / (1 - self.drop))
        return torch.addcmul(shortcut, out, factor.to(out.dtype))


class Stem(nn.Module):
    """Four 3x3 convolutions, of stride 2, 1, 1 and 2."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = Conv(3, width // 8, 3, 2)
        self.conv2 = Conv(width // 8, width // 4, 3, scale=GELU_GAIN)
        self.conv3 = Conv(width // 4, width // 2, 3, scale=GELU_GAIN)
        self.conv4 = Conv(width // 2, width, 3, 2, scale=GELU_GAIN)

    def forward(self, pixels: Tensor) -> Tensor:
        """Make [F, C, S / 4, S / 4] of [F, 3, S, S]."""
        x: Tensor = self.conv1(pixels)
        for conv in (self.conv2, self.conv3, self.conv4):
            x = conv(functional.gelu(x))
        return x


class Nfnet(nn.Module):
    """A normaliser-free ResNet without its classifier; its parts are named as timm names those of `dm_nfnet_f0`."""

    def __init__(self, shape: NfnetShape) -> None:
        super().__init__()
        self.stem = Stem(shape.stem)
        self.stages = nn.Sequential()
        inputs, variance, number = shape.stem, 1.0, 0
        for stage, (depth, width) in enumerate(zip(shape.depths, shape.widths, strict=True)):
            blocks = nn.Sequential()
            for place in range(depth):
                stride = 2 if stage and not place else 1
                drop = shape.drop * number / sum(shape.depths)
                blocks.append(Block(inputs, width, stride, shape.group, variance, drop))
                # The shortcut that begins a stage sets the variance back to 1; each branch adds alpha^2.
                variance = (variance if place else 1.0) + ALPHA**2
                inputs, number = width, number + 1
            self.stages.append(blocks)
        self.final_conv = Conv(inputs, 2 * inputs, 1)
        self.width = 2 * inputs
        self.stride = 4 * 2 ** (len(shape.depths) - 1)

    def forward(self, pixels: Tensor) -> Tensor:
        """Give features [F, P, D_v] of pixels [F, 3, S, S]."""
        # Tensor cores and the kernels of CPUs both want the channels of a pixel together.
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        x = self.final_conv(self.stages(self.stem(pixels)))
        return (functional.gelu(x) * GELU_GAIN).flatten(2).transpose(1, 2)


def load_nfnet(tower: Nfnet, weights: str | Path) -> None:
    """Give an NFNet its weights, in float32, from a safetensors file or a folder with one.

    The names are those of timm, or of a checkpoint of our contrastive stage (`vision.tower.` before them), whose
    other parts are not looked at. A classifier is left out. Shapes are compared before a tensor is read.
    """
    path = weights_file(Path(weights))
    wanted = tower.state_dict()
    try:
        with safe_open(path, framework="pt") as file:
            stored = dict(nfnet_names(list(file.keys())))
            shapes = {name: tuple(file.get_slice(key).get_shape()) for name, key in stored.items()}
            check_shapes(path, shapes, {name: tuple(tensor.shape) for name, tensor in wanted.items()})
            # Copied, as the file may change later and its bytes are not aligned as fresh memory is.
            tensors = {name: file.get_tensor(key).to(torch.float32, copy=True) for name, key in stored.items()}
    except (SafetensorError, OSError) as error:
        raise BadWeights(UNREADABLE_WEIGHTS, f"{path}: {error}") from None
    tower.load_state_dict(tensors, assign=True)


def weights_file(path: Path) -> Path:
    """Find the safetensors file that is meant."""
    if path.is_dir():
        files = sorted(path.glob("*.safetensors"))
        if len(files) != 1:
            raise BadWeights(NO_WEIGHTS, f"{path} has {len(files)} safetensors files, not one")
        return files[0]
    if not path.is_file():
        raise BadWeights(NO_WEIGHTS, f"there is no {path}")
    return path


def nfnet_names(keys: list[str]) -> Iterator[tuple[str, str]]:
    """Pair the names of an NFNet's parts with the keys that they are stored under."""
    prefix = "vision.tower." if any(key.startswith("vision.tower.") for key in keys) else ""
    for key in keys:
        name = key.removeprefix(prefix)
        if key.startswith(prefix) and not name.startswith("head."):
            yield name, key


def check_shapes(path: Path, stored: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse parts that are missing, too many or of another shape, by naming the first one."""
    for name in [*wanted, *stored]:
        if stored.get(name) != wanted.get(name):
            sizes = [str(shapes.get(name, "missing")) for shapes in (stored, wanted)]
            detail = f"{path}: {name} is {sizes[0]}, in the model {sizes[1]} (is vision.variant another one?)"
            raise BadWeights(OTHER_MODEL, detail)
