"""Models that judge pictures: ONNX files and Python functions, loaded, and what they give checked.

    FILE.onnx | module:function | FILE.py:function → parse_model → load_rows → Rows: [picture, ...] → [row, ...]

A function is given a list of Pillow pictures (RGB, as stored), one of pairs also a list of their texts; what it gives
is checked by `score`, which wants numbers, or by `embed`, which wants vectors. An ONNX model is given NCHW float32 of
the size, mean and deviation that `FILE.onnx.toml` or its own metadata says, on one thread; a row is all of a picture's
values of one output. Whatever a model does that it should not is a `UserError` of one line that begins with the setting
that names the model.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import importlib.util
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.folder import locate, open_input
from pipeline.report import refused
from pipeline.sources import stat

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")
FORMS = ("FILE.onnx", "module:function", "FILE.py:function")
Rows = Callable[[list[Image.Image]], Sequence[Any]]
"""Gives something for each picture: a function what it likes, an ONNX model a row of numbers."""


class Model(NamedTuple):
    """A model as the settings name it: `place` is a file or module, `function` is empty for an ONNX file."""

    name: str
    place: str
    function: str
    setting: str = "scores.models"

    @property
    def where(self) -> str:
        """Begin an error: the setting, and the model's name where it has one."""
        return f"{self.setting}: {self.name}" if self.name else self.setting

    @property
    def is_file(self) -> bool:
        """Tell whether the model is a file, and no module that Python finds."""
        return not self.function or self.place.endswith(".py")


def parse_model(text: str) -> Model:
    """Read `NAME=FILE.onnx`, `NAME=module:function` or `NAME=FILE.py:function`; anything else is a `ValueError`."""
    name, equals, place = text.partition("=")
    model = parse_place(place, "scores.models", name)
    if not (equals and NAME.fullmatch(name)) or model is None:
        raise ValueError(
            f"models are {', '.join(f'NAME={form}' for form in FORMS[:2])} or NAME={FORMS[2]}, not {text!r}"
        )
    return model


def parse_pair_model(text: str) -> Model:
    """Read `NAME=module:function` or `NAME=FILE.py:function`; anything else is a `ValueError`."""
    name, equals, place = text.partition("=")
    model = parse_place(place, "scores.pair_models", name)
    if not (equals and NAME.fullmatch(name)) or model is None or not model.function:
        raise ValueError(f"pair_models are NAME={FORMS[1]} or NAME={FORMS[2]}, not {text!r}")
    return model


def parse_place(place: str, setting: str, name: str = "") -> Model | None:
    """Read one of `FORMS`; `None` where it is none of them."""
    if place.endswith(".onnx"):
        return Model(name, place, "", setting)
    module, _, function = place.rpartition(":")
    if function.isidentifier() and (module.endswith(".py") or all(map(str.isidentifier, module.split(".")))):
        return Model(name, module, function, setting)
    return None


def files_of_model(model: Model) -> list[str]:
    """List the files that a model is made of, as far as they can be known; a `UserError` where one is missing."""
    files = [model.place] if model.is_file else module_files(model)
    for path in files:
        system, inside = locate(path)
        if not system.isfile(inside):
            raise refused(f"{model.where}: {path}: no such file")
    return files + ([settings_file(model.place)] if not model.function and settings_file(model.place) else [])


def stamp_of(model: Model) -> str:
    """Give what changes when the content of a model does; a `UserError` where there is none."""
    return " ".join(stat(path)[1] for path in files_of_model(model))


def digest_of(model: Model) -> str:
    """Give the SHA-256 of each file of a model, joined by spaces: the same wherever and whenever it was copied."""
    return " ".join(digest_file(path, stat(path)[1]) for path in files_of_model(model))


@lru_cache(maxsize=16)
def digest_file(path: str, stamp: str) -> str:
    """Hash a file, once a process and again when its stamp changes."""
    digest = hashlib.sha256()
    with open_input(path) as stream:
        while data := stream.read(1 << 20):
            digest.update(data)
    return digest.hexdigest()


def module_files(model: Model) -> list[str]:
    """Find the file of a module, without running it; one without a file (compiled in) has no stamp."""
    try:
        found = importlib.util.find_spec(model.place)
    except (ImportError, ValueError):
        found = None
    if found is None:
        raise refused(f"{model.where}: no module {model.place}")
    return [found.origin] if found.origin and found.has_location else []


def settings_file(path: str) -> str:
    """Name the settings beside an ONNX file; empty where there are none."""
    system, inside = locate(f"{path}.toml")
    return f"{path}.toml" if system.isfile(inside) else ""


def load_rows(model: Model, providers: Sequence[str]) -> OnnxRows | Rows:
    """Load a model; what is wrong with it is a `UserError`."""
    if not model.function:
        return load_onnx(model, providers)
    function = load_function(model)
    return lambda pictures: call_function(model, function, pictures)


def call_function(
    model: Model, function: Callable[..., Any], pictures: list[Image.Image], *more: list[str]
) -> list[Any]:
    """Call a function with pictures of its own; whatever it raises is a `UserError`."""
    try:
        given = list(function([picture.copy() for picture in pictures], *more))
    except Exception as error:
        raise refused(f"{model.where}: {first_line(error)}") from error
    return given


def first_line(error: BaseException) -> str:
    """Tell an error in one line."""
    text = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {text}"


# Python functions


def load_function(model: Model) -> Callable[..., Any]:
    """Import a function; whatever its module raises is told in one line."""
    try:
        module = run_file(model.place) if model.is_file else importlib.import_module(model.place)
    except Exception as error:
        raise refused(f"{model.where}: {model.place}: {first_line(error)}") from error
    function = getattr(module, model.function, None)
    if not callable(function):
        raise refused(f"{model.where}: {model.place} has no function {model.function}")
    return function  # type: ignore[no-any-return]


def run_file(path: str) -> ModuleType:
    """Run a Python file as a module of its own."""
    spec = importlib.util.spec_from_file_location(f"flamingo_model_{abs(hash(path))}", path)
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
    is value `index` of output `output`, after a softmax over them where `softmax` says so. An embedding is all values
    of that output, whatever `index` and `softmax` say.
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


def load_onnx(model: Model, providers: Sequence[str]) -> OnnxRows:
    """Open an ONNX model and try it on a grey picture, so that a wrong one is told before the work."""
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise refused(f"{model.where} needs onnxruntime: pip install 'flamingo-data[score]'") from None
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
        raise refused(f"{model.where}: {model.place}: no ONNX model: {first_line(error)}") from None
    settings = onnx_settings(model.place, session.get_modelmeta().custom_metadata_map)
    rows = OnnxRows(model, session, settings)
    rows([Image.new("RGB", (8, 8), (128, 128, 128))])
    return rows


def local_or_bytes(path: str) -> str | bytes:
    """Give a local path as it is, and the content of any other."""
    if "://" not in path:
        return path
    with open_input(path) as stream:
        return stream.read()


class OnnxRows:
    """Runs an ONNX model."""

    def __init__(self, model: Model, session: Any, settings: OnnxSettings) -> None:
        """Compare what the model takes with the settings; what does not fit is a `UserError`."""
        self.model, self.session, self.settings = model, session, settings
        self.where = f"{model.where}: {model.place}"
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

    def __call__(self, pictures: list[Image.Image]) -> NDArray[np.float64]:
        """Give all values of the output for each picture."""
        rows = np.stack([self.prepare(picture) for picture in pictures])
        batches = np.split(rows, len(rows)) if self.one_by_one else [rows]
        given: list[NDArray[np.float64]] = []
        for batch in batches:
            try:
                (values,) = self.session.run([self.output], {self.input: batch})
                given.append(np.asarray(values, np.float64).reshape(len(batch), -1))
            except Exception as error:
                raise refused(f"{self.where}: {first_line(error)}") from None
        return np.concatenate(given)

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
