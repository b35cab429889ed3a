"""Models that score pictures: ONNX files and Python functions, each held once by a process.

    NAME=FILE.onnx | NAME=module:function | NAME=FILE.py:function → hold_models → Scorer: [picture, ...] → [score, ...]

A function is given a list of Pillow pictures (RGB, as stored) and gives a number for each, or None for one that it
cannot judge. An ONNX model is given NCHW float32 of the size, mean and deviation that `FILE.onnx.toml` or its own
metadata says, on one thread. Whatever a model does that it should not is a `UserError` of one line.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import math
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from pipeline.folder import UserError, locate, open_input
from pipeline.report import refused
from pipeline.sources import stat

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")
Scorer = Callable[[list[Image.Image]], list[float | None]]
"""Gives a score for each picture, or `None` for one that cannot be scored."""


class Model(NamedTuple):
    """A model as the settings name it: `place` is a file or module, `function` is empty for an ONNX file."""

    name: str
    place: str
    function: str

    @property
    def is_file(self) -> bool:
        """Tell whether the model is a file, and no module that Python finds."""
        return not self.function or self.place.endswith(".py")


def parse_model(text: str) -> Model:
    """Read `NAME=FILE.onnx`, `NAME=module:function` or `NAME=FILE.py:function`; anything else is a `ValueError`."""
    name, equals, place = text.partition("=")
    if equals and NAME.fullmatch(name):
        if place.endswith(".onnx"):
            return Model(name, place, "")
        module, _, function = place.rpartition(":")
        if function.isidentifier() and (module.endswith(".py") or all(map(str.isidentifier, module.split(".")))):
            return Model(name, module, function)
    raise ValueError(f"models are NAME=FILE.onnx, NAME=module:function or NAME=FILE.py:function, not {text!r}")


def stamp_of(model: Model) -> str:
    """Give what changes when the content of a model does; a `UserError` where there is none."""
    files = [model.place] if model.is_file else module_files(model)
    stamps = []
    for path in files:
        try:
            stamps.append(stat(path)[1])
        except FileNotFoundError:
            raise refused(f"scores.models: {model.name}: {path}: no such file") from None
    if not model.function and (settings := settings_file(model.place)):
        stamps.append(stat(settings)[1])
    return " ".join(stamps)


def module_files(model: Model) -> list[str]:
    """Find the file of a module, without running it; one without a file (compiled in) has no stamp."""
    try:
        found = importlib.util.find_spec(model.place)
    except (ImportError, ValueError):
        found = None
    if found is None:
        raise refused(f"scores.models: {model.name}: no module {model.place}")
    return [found.origin] if found.origin and found.has_location else []


def settings_file(path: str) -> str:
    """Name the settings beside an ONNX file; empty where there are none."""
    system, inside = locate(f"{path}.toml")
    return f"{path}.toml" if system.isfile(inside) else ""


@lru_cache(maxsize=1)
def hold_models(models: tuple[tuple[Model, str], ...], providers: tuple[str, ...]) -> dict[str, Scorer]:
    """Load models once a process, by name; another stamp loads them anew."""
    return {model.name: load_model(model, providers) for model, _ in models}


def load_model(model: Model, providers: Sequence[str]) -> Scorer:
    """Load a model; what is wrong with it is a `UserError`."""
    if not model.function:
        return load_onnx(model, providers)
    function = load_function(model)

    def score(pictures: list[Image.Image]) -> list[float | None]:
        try:
            given = function([picture.copy() for picture in pictures])
            return check_scores(model.name, list(given), len(pictures))
        except UserError:
            raise
        except Exception as error:
            raise refused(f"scores.models: {model.name}: {first_line(error)}") from error

    return score


def first_line(error: BaseException) -> str:
    """Tell an error in one line."""
    text = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {text}"


def check_scores(name: str, scores: Sequence[Any], wanted: int) -> list[float | None]:
    """Insist on a finite number, or `None`, for each picture."""
    if len(scores) != wanted:
        raise refused(f"scores.models: {name}: gave {len(scores)} scores for {wanted} pictures")
    for score in scores:
        if score is not None and (isinstance(score, bool) or not isinstance(score, int | float | np.number)):
            raise refused(f"scores.models: {name}: gave {score!r:.60}, which is no number")
        if score is not None and not math.isfinite(score):
            raise refused(f"scores.models: {name}: gave {score} for a picture; a score is a finite number or None")
    return [None if score is None else float(score) for score in scores]


# Python functions


def load_function(model: Model) -> Callable[[list[Image.Image]], Any]:
    """Import a function; whatever its module raises is told in one line."""
    try:
        module = run_file(model.place) if model.is_file else importlib.import_module(model.place)
    except Exception as error:
        raise refused(f"scores.models: {model.name}: {model.place}: {first_line(error)}") from error
    function = getattr(module, model.function, None)
    if not callable(function):
        raise refused(f"scores.models: {model.name}: {model.place} has no function {model.function}")
    return function  # type: ignore[no-any-return]


def run_file(path: str) -> ModuleType:
    """Run a Python file as a module of its own."""
    spec = importlib.util.spec_from_file_location(f"flamingo_scores_{abs(hash(path))}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ONNX


@dataclass(frozen=True, slots=True)
class OnnxSettings:
    """What an ONNX model is given and which of its values is the score.

    `size_px` is the side of the square that it takes, 0 for what the model says. With `crop` the shorter side becomes
    that long and the middle is taken, else the picture is stretched. Pixels are 0..1 before `mean` and `std`. The score
    is value `index` of output `output`, after a softmax over them where `softmax` says so.
    """

    size_px: int = 0
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    crop: bool = True
    output: int = 0
    index: int = 0
    softmax: bool = False


MAX_SIDE_PX = 4_096


def read_settings(tree: Mapping[str, Any], where: str) -> OnnxSettings:
    """Read the settings of an ONNX model; a `UserError` names what is wrong."""
    known: dict[str, Any] = {setting.name: setting for setting in dataclasses.fields(OnnxSettings)}
    for name, value in tree.items():
        if name not in known:
            raise refused(f"{where}: unknown setting {name!r} (known: {', '.join(known)})")
        kind = type(known[name].default)
        if kind is tuple:
            good = isinstance(value, list) and len(value) == 3 and all(type(one) in (int, float) for one in value)
        else:
            good = type(value) is kind and value >= 0
        if not good:
            wanted = "three numbers" if kind is tuple else kind.__name__
            raise refused(f"{where}: {name} is {wanted}, not {value!r:.60}")
    read: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in tree.items()}
    settings = OnnxSettings(**read)
    if not all(settings.std) or settings.size_px > MAX_SIDE_PX:
        raise refused(f"{where}: std is not 0, and size_px at most {MAX_SIDE_PX}")
    return settings


def parse_settings(text: str, where: str) -> dict[str, Any]:
    """Read TOML."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise refused(f"{where}: not TOML: {error}") from None


def onnx_settings(path: str, metadata: Mapping[str, str]) -> OnnxSettings:
    """Read the settings of a model: those in its metadata, and over them those beside it."""
    own = {name: text for name, text in metadata.items() if name in {f.name for f in dataclasses.fields(OnnxSettings)}}
    tree = parse_settings("\n".join(f"{name} = {text}" for name, text in own.items()), f"{path}: metadata")
    where = settings_file(path)
    if where:
        with open_input(where) as stream:
            tree |= parse_settings(stream.read().decode("utf-8", "replace"), where)
    return read_settings(tree, where or path)


def load_onnx(model: Model, providers: Sequence[str]) -> Scorer:
    """Open an ONNX model and try it on a grey picture, so that a wrong one is told before the work."""
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise UserError(f"scores.models: {model.name} needs onnxruntime: pip install 'flamingo-data[score]'") from None
    available = onnxruntime.get_available_providers()
    chosen = next((one for one in providers if one in available), None)
    if chosen is None:
        raise refused(f"scores.providers: none of {', '.join(providers)} is there (there are: {', '.join(available)})")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        # A path, so that weights in files beside the model are found.
        session = onnxruntime.InferenceSession(local_or_bytes(model.place), options, providers=[chosen])
    except Exception as error:
        raise refused(f"scores.models: {model.name}: {model.place}: no ONNX model: {first_line(error)}") from None
    settings = onnx_settings(model.place, session.get_modelmeta().custom_metadata_map)
    scorer = OnnxScorer(model, session, settings)
    scorer([Image.new("RGB", (8, 8), (128, 128, 128))])
    return scorer


def local_or_bytes(path: str) -> str | bytes:
    """Give a local path as it is, and the content of any other."""
    if "://" not in path:
        return path
    with open_input(path) as stream:
        return stream.read()


class OnnxScorer:
    """Scores pictures with an ONNX model."""

    def __init__(self, model: Model, session: Any, settings: OnnxSettings) -> None:
        """Compare what the model takes with the settings; what does not fit is a `UserError`."""
        self.model, self.session, self.settings = model, session, settings
        self.where = f"scores.models: {model.name}: {model.place}"
        inputs, outputs = session.get_inputs(), session.get_outputs()
        shape = inputs[0].shape if inputs else []
        if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(shape) != 4:
            told = ", ".join(f"{one.name} {one.type} {one.shape}" for one in inputs)
            raise refused(f"{self.where}: a model takes one tensor(float) of N x 3 x H x W, not {told}")
        if settings.output >= len(outputs):
            raise refused(f"{self.where}: output {settings.output} of {len(outputs)}")
        side = settings.size_px or (shape[2] if isinstance(shape[2], int) else 0)
        fixed = [size if isinstance(size, int) else None for size in shape]
        if not side:
            raise refused(f"{self.where}: takes any size; give size_px in {model.place}.toml")
        if any(have not in (None, want) for have, want in zip(fixed[1:], (3, side, side), strict=True)):
            raise refused(f"{self.where}: takes {shape}, and N x 3 x {side} x {side} is what it would be given")
        if fixed[0] not in (None, 1):
            raise refused(f"{self.where}: takes {fixed[0]} pictures at once; any number, or 1, can be given")
        self.side, self.one_by_one = side, fixed[0] == 1
        self.input, self.output = inputs[0].name, outputs[settings.output].name

    def __call__(self, pictures: list[Image.Image]) -> list[float | None]:
        """Score pictures."""
        rows = np.stack([self.prepare(picture) for picture in pictures])
        batches = np.split(rows, len(rows)) if self.one_by_one else [rows]
        scores: list[Any] = []
        for batch in batches:
            try:
                (values,) = self.session.run([self.output], {self.input: batch})
                values = np.asarray(values, np.float64).reshape(len(batch), -1)
            except Exception as error:
                raise refused(f"{self.where}: {first_line(error)}") from None
            if self.settings.index >= values.shape[1]:
                raise refused(f"{self.where}: value {self.settings.index} of {values.shape[1]} a picture")
            if self.settings.softmax:
                values = np.exp(values - values.max(axis=1, keepdims=True))
                values /= values.sum(axis=1, keepdims=True)
            scores += values[:, self.settings.index].tolist()
        return check_scores(self.model.name, scores, len(pictures))

    def prepare(self, picture: Image.Image) -> np.ndarray[Any, Any]:
        """Scale a picture to the model's size: 3 x H x W, float32."""
        box = None
        if self.settings.crop:
            side = min(picture.size)
            left, top = (picture.width - side) / 2, (picture.height - side) / 2
            box = (left, top, left + side, top + side)
        scaled = picture.resize((self.side, self.side), Image.Resampling.BICUBIC, box=box)
        pixels = np.asarray(scaled, np.float32) / 255
        mean, std = (np.asarray(one, np.float32) for one in (self.settings.mean, self.settings.std))
        settled = (pixels - mean) / std
        return np.ascontiguousarray(settled.transpose(2, 0, 1), np.float32)
