"""Frames on their way into a vision encoder: moved to the device, flipped, jittered, normalised; or decoded there.

    frames [F, 3, S, S] uint8 → to_device → normalise or augment → pixels [F, 3, S, S]
    files → GpuDecoder → frames [F, 3, S, S] uint8 on the device, where nvJPEG is installed

F frames of M media (pictures and clips), S pixels a side. All but nvJPEG runs on the CPU as well.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
import simplejpeg
import torch
from torch import Tensor
from torch.nn import functional

from flamingo_model.pixels import (
    LIMITS,
    BadImage,
    Colour,
    Limits,
    Stats,
    check_size,
    decode_image,
    halvings,
    layout,
    new_frames,
    read_jpeg_turn,
    wanted_size,
)


def to_device(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Move a tensor; to CUDA through page-locked memory, so that the copy runs beside other work."""
    if torch.device(device).type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return (tensor if tensor.is_pinned() else tensor.pin_memory()).to(device, non_blocking=True)


def normalise(frames: Tensor, stats: Stats, dtype: torch.dtype = torch.float32) -> Tensor:
    """Turn frames [F, 3, S, S] uint8 into (x / 255 - mean) / std, computed in float32 and kept as `dtype`."""
    scale, shift = (torch.tensor(values, device=frames.device)[:, None, None] for values in line_of(stats))
    pixels = torch.empty_like(frames, dtype=dtype)
    return torch.addcmul(shift, frames, scale, out=pixels)  # one pass: types are changed on the way


def line_of(stats: Stats) -> tuple[list[float], list[float]]:
    """Tell the factor and the summand of each channel that take codes of 0..255 to normalised pixels."""
    factors = [1 / (255 * std) for std in stats.std]
    return factors, [-mean / std for mean, std in zip(stats.mean, stats.std, strict=True)]


LUMA = (0.299, 0.587, 0.114)  # of red, green and blue in grey (ITU-R BT.601)


def augment(
    frames: Tensor, frame_medium: Tensor, flip: Tensor, jitter: Tensor, stats: Stats, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Mirror, jitter and normalise frames [F, 3, S, S] uint8; `frame_medium` [F] says whose each one is.

    `flip` [M] bool and `jitter` [M, 3] hold a decision for each medium, so that all frames of a clip are treated
    alike. Brightness multiplies by jitter[0]; contrast pulls apart from the frame's mean grey by jitter[1];
    saturation from each pixel's grey by jitter[2]. What leaves 0..255 is cut off once, at the end. The three are
    one matrix a frame, so that the pixels are multiplied once. Factors of 1 give what `normalise` gives.
    """
    frame_medium = frame_medium.to(frames.device)
    mirrored = flip.to(frames.device)[frame_medium][:, None, None, None]
    frames = torch.where(mirrored, frames.flip(-1), frames)
    planes = frames.to(torch.float32, memory_format=torch.contiguous_format).flatten(2)
    matrix, summand = jitter_lines(planes.mean(2), jitter.to(frames.device, torch.float32)[frame_medium])
    coloured = torch.baddbmm(summand[:, :, None], matrix, planes).clamp_(0, 255)
    scale, shift = (torch.tensor(values, device=frames.device)[:, None] for values in line_of(stats))
    pixels = torch.empty_like(coloured, dtype=dtype)
    return torch.addcmul(shift, coloured, scale, out=pixels).view(frames.shape)


def jitter_lines(mean: Tensor, jitter: Tensor) -> tuple[Tensor, Tensor]:
    """Make the matrix [F, 3, 3] and summand [F, 3] of frames with the mean colours [F, 3] and factors [F, 3]."""
    bright, contrast, saturation = jitter.unbind(1)
    luma = torch.tensor(LUMA, device=mean.device)
    grey = luma.expand(3, 3)  # each channel becomes the grey
    same = torch.eye(3, device=mean.device)
    blend = saturation[:, None, None] * same + (1 - saturation)[:, None, None] * grey
    matrix = (bright * contrast)[:, None, None] * blend
    summand = (1 - contrast) * bright * (mean @ luma)
    return matrix, summand[:, None].expand(-1, 3)


def fit_decoded(pixels: Tensor, side: int, fit: str, fill: Colour) -> Tensor:
    """Fit pictures of one size [F, 3, height, width] uint8 into squares [F, 3, S, S], as `place` does.

    What is much too large is averaged over powers of two first, as a JPEG is that is scaled while it is decoded: the
    kernel on the device has no room for wider filters.
    """
    size = pixels.shape[2], pixels.shape[3]
    factors = [halvings(pixel, wanted) for pixel, wanted in zip(size, wanted_size(size, side, fit), strict=True)]
    shown = functional.avg_pool2d(pixels.float(), factors, ceil_mode=True)
    extent = (size[0] / factors[0], size[1] / factors[1])
    scales, (rows, columns), (down, across) = layout(shown.shape[2:], extent, size, side, fit)
    fitting = (down.stop - down.start, across.stop - across.start)
    fitted = UPSAMPLE(shown[:, :, rows, columns], fitting, False, *scales).round_().clamp_(0, 255)
    frames = torch.tensor(fill, dtype=torch.uint8, device=pixels.device)[:, None, None]
    frames = (
        frames.repeat(len(pixels), 1, side, side)
        if fitting != (side, side)
        else torch.empty_like(fitted, dtype=torch.uint8)
    )
    frames[:, :, down, across] = fitted
    return frames


UPSAMPLE = torch.ops.aten._upsample_bicubic2d_aa  # as `interpolate`, and by fractions
Decode = Callable[[list[Tensor]], list[Tensor]]


class GpuDecoder:
    """Decodes many pictures at once on a GPU: nvJPEG, then one resize for all pictures of a size.

    `decode` takes the bytes of JPEGs, as tensors [bytes] uint8, and gives [3, height, width] uint8 each; a
    `RuntimeError` is its refusal of them all. What it refuses, and what is no upright whole JPEG, the CPU decodes.
    """

    def __init__(self, device: torch.device | str, decode: Decode | None = None, limits: Limits = LIMITS) -> None:
        self.device = torch.device(device)
        self.decode = decode or nvjpeg(self.device)
        self.limits = limits

    def __call__(self, files: Sequence[bytes], side: int, fit: str, fill: Colour) -> tuple[Tensor, dict[int, BadImage]]:
        """Decode files into frames [F, 3, S, S] uint8 on the device; those refused, by number, are left as `fill`."""
        frames = torch.tensor(fill, dtype=torch.uint8, device=self.device)[:, None, None].repeat(
            len(files), 1, side, side
        )
        easy = [number for number, data in enumerate(files) if is_easy(data, self.limits)]
        decoded = self.decode_all(files, easy)
        sizes: dict[tuple[int, ...], list[int]] = {}
        for number, pixels in decoded.items():
            sizes.setdefault(tuple(pixels.shape), []).append(number)
        for numbers in sizes.values():
            frames[numbers] = fit_decoded(torch.stack([decoded[number] for number in numbers]), side, fit, fill)
        refused = {}
        for number in sorted({*range(len(files))} - decoded.keys()):
            frame = new_frames(1, side)
            try:
                decode_image(files[number], frame[0].numpy(), fit, fill, self.limits)
                frames[number] = to_device(frame[0], self.device)
            except BadImage as error:
                refused[number] = error
        return frames, refused

    def decode_all(self, files: Sequence[bytes], numbers: Sequence[int]) -> dict[int, Tensor]:
        """Decode as many as the GPU takes: all at once, and one by one where it refuses that."""
        tensors = [torch.from_numpy(np.frombuffer(files[number], np.uint8).copy()) for number in numbers]
        try:
            return dict(zip(numbers, self.decode(tensors), strict=True)) if tensors else {}
        except RuntimeError:
            if len(numbers) == 1:
                return {}
        return {key: value for number in numbers for key, value in self.decode_all(files, [number]).items()}


def nvjpeg(device: torch.device) -> Decode:
    """Find nvJPEG, which torchvision brings; an `ImportError` or `RuntimeError` says that there is none."""
    from torchvision.io import ImageReadMode, decode_jpeg  # type: ignore[import-not-found]

    if device.type != "cuda" or not torch.cuda.is_available():
        raise RuntimeError(f"nvJPEG decodes on CUDA, not on {device}")
    return functools.partial(decode_jpeg, mode=ImageReadMode.RGB, device=device)


def is_easy(data: bytes, limits: Limits) -> bool:
    """Tell whether a file is a JPEG within the limits that is upright, whole by its end and in usual colours.

    The GPU does not tell of a JPEG that is cut short.
    """
    try:
        if len(data) > limits.max_bytes or not data.endswith(b"\xff\xd9"):
            return False
        height_px, width_px, colours, _ = simplejpeg.decode_jpeg_header(data)
        check_size(width_px, height_px, limits)
        return colours in ("YCbCr", "Gray") and read_jpeg_turn(data, limits) == 1
    except ValueError:  # a BadImage too
        return False
