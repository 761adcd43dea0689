"""KerasHub presets: folders with the config, the weights and the preprocessing of a backbone. TensorFlow is not imported.

Everything in a preset is checked before keras_hub reads it, because a preset may come from an untrusted source.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Len

from kerastl.errors import (
    RequestError,
    first_line,
    in_syntax,
    join_words,
    quote,
    setting,
    shell_command,
    suggest,
)
from kerastl.image_size import Resize, Size, as_size, format_size, plain_size
from kerastl.models.pooling import pooling_problem
from kerastl.options import StrictModel
from kerastl.registry import PRESET_PREFIX, is_model_file, is_preset

PerChannel = float | Annotated[tuple[float, ...], Len(3, 3)]
EXTRA = "KerasHub is not installed. Install it: pip install 'kerastl[hub]'"
CONFIG, CONVERTER, WEIGHTS, SHARDS = (
    "config.json",
    "image_converter.json",
    "model.weights.h5",
    "model.weights.json",
)
MAX_JSON_BYTES = 2**20
MAX_NUMBER = 100_000
"""A larger number in a config would allocate memory until the process ends."""
DEFAULT_SIDE_PX = 224
"""For a preset that defines no image size."""
MIN_SIDE_PX = 32
LICENSE_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "NOTICE")
MINUS_ONE_TO_ONE = (1 / 127.5, -1.0)
"""Scale and offset for initial weights, which were not trained on any pixel range."""
RESCALING = ("Rescaling", "Normalization", "Subtract", "Multiply", "TrueDivide", "Divide")
"""Operations that count as preprocessing if they come before the first layer with weights."""
NO_PREFIX = "\0"
INITIAL_SPREAD = 1e-3
"""Initializers of KerasHub set biases and scales to constants, or to noise of standard deviation 1e-6."""
Sizes = Literal["variable", "patches", "fixed"]


def _scale_is_not_zero(options: Options) -> Iterator[tuple[str, str]]:
    if options.scale is not None and 0 in (
        options.scale if isinstance(options.scale, tuple) else (options.scale,)
    ):
        yield "scale", "must not be 0, because all pixels would be equal. For unchanged pixels, use 1."


class Options(StrictModel):
    """Options of a preset or of a `.keras` file.

    Args:
        scale: The network takes `pixels * scale + offset`, where pixels are 0 to 255: a number, or one for each of R, G
            and B, not 0. null uses the preprocessing of the preset or the file.
        offset: See `scale`; null is 0 if `scale` is set.
    """

    RULES: ClassVar = (_scale_is_not_zero,)
    scale: PerChannel | None = None
    offset: PerChannel | None = None


@dataclass(frozen=True)
class Architecture:
    """What kerastl knows about a backbone class of KerasHub.

    Args:
        sizes: Image sizes: `variable`; `patches`, any multiple of the patch size, because positions are interpolated; or
            `fixed`, the size of the preset.
        tokens: Number of tokens before those of the patches, or the key of the config that adds to it. The first one is
            the class token. None if the output is not a sequence of tokens.
        default_registers: The value of that key in a config without it.
        is_pooled: Whether the output is pooled features.
        is_square: Whether only square images are accepted.
        vision_encoder: Whether the image backbone is the vision encoder of a model of images and texts.
        blocks: Names of its blocks, with `{}` for the number of a transformer layer. Empty if they depend on the graph.
        first_layer: The number of the first transformer layer.
    """

    sizes: Sizes = "variable"
    tokens: int | str | None = None
    default_registers: int = 0
    is_pooled: bool = False
    is_square: bool = False
    vision_encoder: bool = False
    blocks: tuple[str, ...] = ()
    first_layer: int = 0


CLIP_BLOCKS, DINO_BLOCKS = ("embedding", "encoder_block_{}"), ("embeddings", "layers_{}")
VIT_BLOCKS = ("vit_patching_and_embedding", "transformer_block_{}")
ARCHITECTURES = {
    **{
        f"{name}Backbone": Architecture()
        for name in ("CSPNet", "DenseNet", "EfficientNet", "HGNetV2", "MobileNet", "MobileNetV5", "ResNet", "VGG", "Xception")
    },
    "CLIPBackbone": Architecture("fixed", 1, vision_encoder=True),
    "CLIPVisionEncoder": Architecture("fixed", 1, blocks=CLIP_BLOCKS),
    "DeiTBackbone": Architecture("fixed", 2, blocks=("deit_patching_and_embedding", "deit_encoder")),
    "DINOV2Backbone": Architecture("patches", "num_register_tokens", is_square=True, blocks=DINO_BLOCKS),
    "DINOV3Backbone": Architecture("patches", "num_register_tokens", default_registers=4, blocks=DINO_BLOCKS),
    "SigLIPBackbone": Architecture("fixed", is_pooled=True, vision_encoder=True),
    "SigLIPVisionEncoder": Architecture("fixed", is_pooled=True, blocks=(*CLIP_BLOCKS, "backbone_head")),
    "ViTBackbone": Architecture("fixed", "use_class_token", blocks=VIT_BLOCKS, first_layer=1),
}  # fmt: skip
UNSUPPORTED = (
    "which is not an image backbone of KerasHub that kerastl supports. "
    f"Use one of {join_words(sorted(ARCHITECTURES))}."
)


@dataclass(frozen=True)
class Preset:
    """A preset folder.

    Args:
        folder: The folder.
        kind: Class name of its backbone, a key of `ARCHITECTURES`.
        config: Settings of the image backbone.
        converter: Settings of its image converter; empty if it has none.
        parameters: Number of parameters that the preset states, or 0.
    """

    folder: Path
    kind: str
    config: Mapping[str, Any]
    converter: Mapping[str, Any]
    parameters: int

    @property
    def architecture(self) -> Architecture:
        """What is known about its class."""
        return ARCHITECTURES[self.kind]

    @property
    def num_prefix_tokens(self) -> int | None:
        """Number of class and register tokens before those of the patches; None if it does not return tokens."""
        return prefix_tokens(self.kind, self.config)

    @property
    def output_rank(self) -> int:
        """Dimensions of its output with the batch: 4 for feature maps, 3 for tokens, 2 for pooled features."""
        return 3 if self.num_prefix_tokens is not None else 2 if self.architecture.is_pooled else 4

    @property
    def size(self) -> Size | None:
        """Height and width of the images that its config or its image converter defines, in pixels."""
        shapes = [self.config.get(key) for key in ("image_shape", "input_shape")]
        sizes = [
            shape[:2] for shape in (*shapes, self.converter.get("image_size")) if isinstance(shape, list)
        ]
        return next(
            ((size[0], size[1]) for size in sizes if all(isinstance(side, int) for side in size)), None
        )

    @property
    def block_names(self) -> tuple[str, ...]:
        """Names of its blocks as far as its config defines them, otherwise empty."""
        count, first = self.config.get("num_layers"), self.architecture.first_layer
        layers = range(first, first + count) if isinstance(count, int) else ()
        names = [
            [name.format(layer) for layer in layers] if "{}" in name else [name]
            for name in self.architecture.blocks
        ]
        return tuple(name for series in names for name in series)

    @property
    def resize(self) -> Resize:
        """How its images were resized, as in `data.resize`."""
        modes: dict[Resize, str] = {"crop": "crop_to_aspect_ratio", "pad": "pad_to_aspect_ratio"}
        return next((mode for mode, key in modes.items() if self.converter.get(key)), "stretch")

    @property
    def license(self) -> str | None:
        """The first line of its license file, or None."""
        for name in LICENSE_FILES:
            file = self.folder / name
            if file.is_file() and file.stat().st_size <= MAX_JSON_BYTES:
                lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
                text = next((line.strip() for line in lines if line.strip()), "")
                return "".join(letter for letter in text if letter.isprintable())[:100] or None
        return None

    def weight_files(self) -> list[Path]:
        """Return the files of its weights.

        Raises:
            RequestError: One is missing, or is not a file of this folder.
        """
        names = [WEIGHTS]
        if not (self.folder / WEIGHTS).is_file() and (self.folder / SHARDS).is_file():
            shards = _read_json(self.folder / SHARDS).get("weight_map")
            values = shards.values() if isinstance(shards, dict) else ()
            names = sorted(
                {name for value in values for name in (value if isinstance(value, list) else [value])}
            )
        for name in names or [WEIGHTS]:
            if not isinstance(name, str) or Path(name).name != name or not (self.folder / name).is_file():
                raise RequestError(f"The preset {self.folder} has no file {quote(str(name))} with weights.")
        return [self.folder / name for name in names]

    def read_vectors(self) -> list[Any]:
        """Return the arrays of one dimension of its weights. All arrays of all files are checked.

        Raises:
            RequestError: A weights file is missing, damaged or not safe.
        """
        from kerastl.models.weight_files import read_vectors, weights_file_errors

        vectors = []
        for file in self.weight_files():
            with weights_file_errors(file):
                vectors += read_vectors(file)
        return vectors

    def check_weights(self) -> None:
        """Check that the files of its weights are complete, and belong to its config and to its metadata.

        Raises:
            RequestError: A file is missing, damaged or not safe, or belongs to another preset.
        """
        from kerastl.models.weight_files import array_shapes

        arrays = [item for file in self.weight_files() for item in array_shapes(file).items()]
        groups = {group for name, _ in arrays for group in name.split("/")}
        prefixes = {kind: layer_prefix(kind) for kind in ARCHITECTURES}
        kinds = [
            kind for kind, prefix in prefixes.items() if any(group.startswith(prefix) for group in groups)
        ]
        own = [kind for kind, prefix in prefixes.items() if prefix == prefixes[self.kind] != NO_PREFIX]
        if kinds != own:
            raise RequestError(
                f"{self.folder}: {CONFIG} describes {self.kind}, but the weights belong to {join_words(kinds) or 'another class'}. "
                "Save the preset again: backbone.save_to_preset(FOLDER)"
            )
        count = sum(math.prod(shape) for _, shape in arrays)
        if self.parameters and not self.architecture.vision_encoder and count != self.parameters:
            raise RequestError(
                f"{self.folder}: the weights have {count:,} values, but metadata.json states {self.parameters:,}. The files belong "
                "to different presets. Save the preset again: backbone.save_to_preset(FOLDER)"
            )

    def choose_scaling(
        self, scale: Any = None, offset: Any = None, *, has_weights: bool = True
    ) -> tuple[Any, Any, str]:
        """Return the scale and the offset of the pixels, and a note for the user.

        Args:
            scale, offset: Those of the recipe, or None.
            has_weights: Whether the weights of the preset are used.

        Raises:
            RequestError: They are unknown: the preset has no image converter, and its weights are trained.
        """
        if scale is not None or offset is not None:
            return *complete_scaling(scale, offset), ""
        if self.converter:
            return *complete_scaling(self.converter.get("scale"), self.converter.get("offset")), ""
        if has_weights and are_trained(self.read_vectors()):
            raise RequestError(
                f"{self.folder} has no {CONVERTER}, so its pixel range is unknown. Set "
                f"{setting('scale', 0.00784)} and {setting('offset', -1.0)} for pixels in [-1, 1]; or save the image converter "
                f"of the preset: converter.save_to_preset({str(self.folder)!r})"
            )
        return *MINUS_ONE_TO_ONE, f"{self.folder.name} has no image converter: pixels are scaled to [-1, 1]."


def layer_prefix(kind: str) -> str:
    """Return how the names of the layers of a transformer begin in its weights, such as `vi_t_`."""
    from kerastl.models.flatten import snake_case

    architecture = ARCHITECTURES[kind]
    has_own_layers = architecture.tokens is not None or architecture.is_pooled or architecture.vision_encoder
    name = kind.removesuffix("Backbone").removesuffix("VisionEncoder")
    return f"{snake_case(name)}_" if has_own_layers else NO_PREFIX


def unknown_range(name: str) -> RequestError:
    """Return the error for a trained model that does not rescale pixels."""
    example = in_syntax("scale: 0.00784 and offset: -1", "scale=1 / 127.5, offset=-1.0")
    unchanged = in_syntax("scale: 1 and offset: 0", "scale=1, offset=0")
    return RequestError(
        f"{name} has trained weights and no layer that rescales pixels, so its pixel range is unknown. Set {example} for pixels "
        f"in [-1, 1], or {unchanged} if it rescales pixels in [0, 255] in code; or start the model with keras.layers.Rescaling or keras.layers.Normalization."
    )


def complete_scaling(scale: Any, offset: Any) -> tuple[Any, Any]:
    """Return the scale and the offset of the pixels. None is replaced by the value that changes nothing."""
    return (1.0 if scale is None else scale), (0.0 if offset is None else offset)


def are_trained(vectors: Iterable[Any]) -> bool:
    """Return whether weights are trained. In initial weights, all values of a bias or of a scale are equal.

    Args:
        vectors: The arrays of one dimension of a model.
    """
    import numpy as np

    return any(vector.size and np.ptp(vector) > INITIAL_SPREAD for vector in vectors)


def prefix_tokens(kind: str, config: Mapping[str, Any]) -> int | None:
    """Return the number of class and register tokens of a backbone of KerasHub, given its class and its settings."""
    architecture = ARCHITECTURES[kind]
    match tokens := architecture.tokens:
        case "use_class_token":
            return int(config.get("use_class_token", True))
        case str():
            return 1 + int(config.get(tokens, architecture.default_registers))
    return tokens


def public_name(name: str) -> str:
    """Return the name of a backbone without the path of its folder or file."""
    return f"{PRESET_PREFIX if is_preset(name) else ''}{Path(name).name}" if "/" in name else name


def preset_exists(name: str) -> bool:
    """Return whether a preset or a `.keras` file exists."""
    path = Path(name) if is_model_file(name) else _local_folder(name) or downloaded_folder(name)
    return path is not None and path.exists()


def absolute_name(name: str) -> str:
    """Return the name of a backbone with the absolute path of its folder or file, if it has one."""
    if is_model_file(name):
        return str(Path(os.path.expanduser(name)).absolute())  # noqa: PTH111 - Path raises for ~user without an account
    folder = _local_folder(name)
    return name if folder is None else f"{PRESET_PREFIX}{folder}"


def _local_folder(name: str) -> Path | None:
    """Return the folder of a preset whose name contains its path, or None if the name is a published one."""
    text = name.removeprefix(PRESET_PREFIX)
    folder = Path(os.path.expanduser(text))  # noqa: PTH111 - Path raises for ~user without an account
    is_path = "/" in text or text.startswith((".", "~")) or folder.is_dir()
    return folder.absolute() if is_path and "://" not in text and "\0" not in text else None


def read_preset(name: str) -> Preset:
    """Read and check a preset without its weights.

    Args:
        name: `keras_hub/PATH` or `keras_hub/NAME`, where NAME is a published preset that has been downloaded.

    Raises:
        RequestError: It is missing, damaged, not safe, or not a preset of an image backbone.
    """
    folder = _local_folder(name) or downloaded_folder(name)
    if folder is None:
        raise RequestError(_missing_message(name))
    if not folder.is_dir():
        raise RequestError(f"There is no preset folder {folder}.")
    content = _read_json(folder / CONFIG)
    kind = str(content.get("registered_name", "")).removeprefix("keras_hub>")
    if kind not in ARCHITECTURES:
        raise RequestError(_unknown_class(folder, content, kind))
    _check_config(folder / CONFIG, content)
    config = content.get("config")
    if ARCHITECTURES[kind].vision_encoder and isinstance(config, dict):
        config = (config.get("vision_encoder") or {}).get("config")
    if not isinstance(config, dict):
        raise RequestError(f"{folder / CONFIG} has no settings of a backbone.")
    parameters = _read_json(folder / "metadata.json", {}).get("parameter_count", 0)
    return Preset(folder, kind, config, _converter(folder), parameters if isinstance(parameters, int) else 0)


def _read_json(file: Path, default: Any = None) -> Any:
    """Return the object in a JSON file; `default`, if given, for a file that does not exist."""
    if default is not None and not file.is_file():
        return default
    try:
        if file.stat().st_size > MAX_JSON_BYTES:
            raise RequestError(f"{file} is larger than {MAX_JSON_BYTES:,} bytes.")
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise RequestError(
            f"{file} cannot be read: {error.strerror}. A preset folder contains {CONFIG}."
        ) from None
    except (ValueError, RecursionError):
        raise RequestError(f"{file} is not a JSON file.") from None
    if not isinstance(content, dict):
        raise RequestError(f"{file} is not a JSON object.")
    return content


def _unknown_class(folder: Path, content: Mapping[str, Any], kind: str) -> str:
    if not kind and {"model_type", "architecture"} & content.keys():
        return (
            f"{folder} has the format of another library. Convert it: keras_hub.models.Backbone.from_preset"
            f"({str(folder)!r}).save_to_preset(FOLDER)"
        )
    return f"{folder / CONFIG} describes {quote(kind or 'no class')}, {UNSUPPORTED}"


def _check_config(file: Path, content: Any) -> None:
    """Raise RequestError if a config contains classes of packages other than Keras and KerasHub, or huge numbers."""
    for value in nested_values(content):
        if isinstance(value, int | float) and not abs(value) <= MAX_NUMBER:
            raise RequestError(f"{file} contains the number {value!r}, which is larger than {MAX_NUMBER:,}.")
        if isinstance(value, list) and len(value) > MAX_NUMBER:
            raise RequestError(f"{file} contains a list of {len(value):,} values.")
        module = value.get("module") if isinstance(value, dict) else None
        kind = value.get("class_name") if isinstance(value, dict) else None
        package = f"{module or ''}."
        registered = value.get("registered_name") if isinstance(value, dict) else None
        is_named_alike = registered in (None, kind, f"keras_hub>{kind}")
        is_backbone = package.startswith("keras_hub.src.models.") and kind in (*ARCHITECTURES, *TEXT_ENCODERS)
        is_setting = package.startswith(("keras.initializers.", "keras.src.initializers."))
        is_allowed = is_named_alike and (is_backbone or is_setting or kind in POLICIES)
        if kind is not None and not is_allowed:
            raise RequestError(
                f"{file} contains the class {quote(f'{module}.{kind}')}, which a backbone does not need."
            )


TEXT_ENCODERS = ("CLIPTextEncoder", "SigLIPTextEncoder")
POLICIES = ("DTypePolicy", "DTypePolicyMap", "FloatDTypePolicy")


def nested_values(content: Any) -> Iterator[Any]:
    """Yield JSON content and all values inside it."""
    yield content
    if isinstance(content, dict | list):
        for item in content.values() if isinstance(content, dict) else content:
            yield from nested_values(item)


def _converter(folder: Path) -> dict[str, Any]:
    """Return the settings of the image converter of a preset, which may also be inside the preprocessor."""
    content = _read_json(folder / CONVERTER, {})
    if not content:
        content = _read_json(folder / "preprocessor.json", {}).get("config", {}).get("image_converter") or {}
    config = content.get("config", {})
    if config.get("data_format") == "channels_first":
        raise RequestError(f"{folder / CONVERTER} has channels first, but images have channels last.")
    for key in ("scale", "offset"):
        values = config.get(key)
        numbers = values if isinstance(values, list) else [values]
        if values is not None and (
            len(numbers) not in (1, 3) or not all(type(number) in (int, float) for number in numbers)
        ):
            raise RequestError(
                f"{folder / CONVERTER}: {key} must be a number or three numbers, got {values!r}."
            )
    return dict(config)


@cache
def published_presets() -> dict[str, dict[str, Any]]:
    """Return the presets of image backbones that KerasHub publishes, by name: `{"handle", "parameters"}`.

    The tables of KerasHub are read as text, because importing them imports TensorFlow. Empty without KerasHub.
    """
    spec = importlib.util.find_spec("keras_hub")
    presets: dict[str, dict[str, Any]] = {}
    for folder in spec.submodule_search_locations or () if spec else ():
        for kind in ARCHITECTURES:
            family = kind.removesuffix("Backbone").lower()
            presets |= _read_table(Path(folder) / "src" / "models" / family / f"{family}_presets.py")
    return presets


def _read_table(file: Path) -> dict[str, dict[str, Any]]:
    if not file.is_file():
        return {}
    for statement in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Dict):
            table = ast.literal_eval(statement.value)
            return {
                name: {"handle": row["kaggle_handle"], "parameters": row["metadata"].get("params", 0)}
                for name, row in table.items()
            }
    return {}


def downloaded_presets() -> list[str]:
    """Return the names of the published presets that are downloaded, such as `keras_hub/vit_base_patch16_224_imagenet`."""
    return [f"{PRESET_PREFIX}{name}" for name in sorted(published_presets()) if downloaded_folder(name)]


def fetch_preset(name: str) -> Path:
    """Download a published preset to the cache of kagglehub, and return its folder.

    Raises:
        RequestError: KerasHub is not installed, it publishes no such preset, or the download failed.
    """
    check_installed()
    row = published_presets().get(name.removeprefix(PRESET_PREFIX))
    if row is None:
        raise RequestError(_missing_message(name))
    import kagglehub

    try:
        kagglehub.model_download(row["handle"].removeprefix("kaggle://"))
    except Exception as error:  # kagglehub and its transport raise many errors
        raise RequestError(f"{name} could not be downloaded: {first_line(error)}") from error
    return read_preset(name).folder


def downloaded_folder(name: str) -> Path | None:
    """Return the folder of a published preset in the cache of kagglehub, or None if it is not downloaded."""
    row = published_presets().get(name.removeprefix(PRESET_PREFIX))
    if row is None:
        return None
    home = os.environ.get("KAGGLEHUB_CACHE")
    cache_folder = Path(home).expanduser() if home else Path.home() / ".cache" / "kagglehub"
    folder = cache_folder / "models" / row["handle"].removeprefix("kaggle://")
    return folder if (folder / CONFIG).is_file() else None


def _missing_message(name: str) -> str:
    text = name.removeprefix(PRESET_PREFIX)
    if text in published_presets():
        return (
            f"The KerasHub preset {text} is not downloaded.\n  Download it: {shell_command('kerastl', 'weights', 'fetch', name)}\n"
            f"  or use the path of a preset folder: {setting('name', f'{PRESET_PREFIX}PATH')}"
        )
    if not published_presets():
        return f"{name}: {EXTRA}"
    hint = suggest(text, published_presets())
    return (
        f"There is no KerasHub preset {quote(text)} of an image backbone, and no such folder. {hint}".rstrip()
    )


def preset_findings(
    backbone: Any, image_size_px: int | Size | None, pooling: Any
) -> Iterator[tuple[str, str]]:
    """Yield `(path, message)` for everything that is wrong with the backbone of a recipe that is a preset.

    Args:
        backbone: The section `backbone` of the recipe, which may be only partly valid.
        image_size_px: `data.image_size_px`, or None.
        pooling: `head.pooling`, or None.
    """
    has_weights = getattr(backbone, "weights", None) == "preset"
    options = getattr(backbone, "options", None)
    scaling = getattr(options, "scale", None), getattr(options, "offset", None)
    try:
        if is_model_file(backbone.name):
            _file_size(backbone.name)
            if has_weights and scaling == (None, None):
                _check_pixel_range(Path(backbone.name))
            return
        check_installed()
        preset = read_preset(backbone.name)
    except RequestError as error:
        yield "backbone.name", str(error)
        return
    try:
        resolve_preset_size(backbone.name, image_size_px)
    except RequestError as error:
        yield "data.image_size_px", str(error)
    if problem := pooling_problem(pooling or "auto", preset.output_rank, preset.num_prefix_tokens):
        yield "head.pooling", problem
    try:
        if has_weights:
            preset.check_weights()
        preset.choose_scaling(*scaling, has_weights=has_weights)
    except RequestError as error:
        yield "backbone.name", str(error)


def _check_pixel_range(path: Path) -> None:
    """Check that the pixel range of the model in a `.keras` file is known, as far as the file shows.

    Raises:
        RequestError: It has trained weights, and no layer before the first one of them rescales pixels.
    """
    import numpy as np

    from kerastl.models.weight_files import saved_layers

    is_trained, starts = False, (*RESCALING, *ARCHITECTURES)
    with suppress(Exception), saved_layers(path) as layers:  # loading the file reports any damage
        first = next((layer for layer in layers if layer.kind in starts or layer.holds_weights), None)
        if first is not None and first.kind not in starts:
            vectors = (array for layer in layers for array in layer.arrays if array.ndim == 1)
            is_trained = are_trained(np.asarray(array) for array in vectors)
    if is_trained:
        raise unknown_range(path.stem)


def _file_size(name: str) -> Size:
    """Return the height and width of the images of a `.keras` file; None in its input means the default."""
    from kerastl.models.weight_files import check_model_file

    config = check_model_file(Path(name))
    settings = config.get("config")
    hub_shape = settings.get("image_shape") if isinstance(settings, dict) else None
    inputs = [value.get("batch_shape") for value in nested_values(config) if isinstance(value, dict)]
    shapes = [shape for shape in inputs if isinstance(shape, list)]
    sizes = [shape[1:3] for shape in shapes if len(shape) == 4 and shape[-1] in (3, None)]
    if shapes and not sizes:
        raise RequestError(
            f"{name} takes {shapes[0]}, but a backbone takes RGB images [None, height, width, 3]."
        )
    sizes.append(((config.get("build_config") or {}).get("input_shape") or [])[1:3])
    size = tuple(hub_shape[:2] if isinstance(hub_shape, list) else sizes[0])
    return (size[0], size[1]) if len(size) == 2 and None not in size else (DEFAULT_SIDE_PX, DEFAULT_SIDE_PX)


def check_installed() -> None:
    """Raise RequestError if KerasHub is not installed."""
    if importlib.util.find_spec("keras_hub") is None:
        raise RequestError(EXTRA)


def resolve_preset_size(name: str, image_size_px: int | Size | None) -> Size:
    """Return (height, width) in pixels for a preset and a size or a side length; None means the size of the preset.

    Raises:
        RequestError: The preset does not take images of this size.
    """
    if is_model_file(name) or (image_size_px is not None and not preset_exists(name)):
        return as_size(image_size_px or _file_size(name))
    preset = read_preset(name)
    own = preset.size
    size = as_size(image_size_px or own or DEFAULT_SIDE_PX)
    patch = preset.config.get("patch_size")
    patch = patch[0] if isinstance(patch, list) and patch else patch
    received = f"Received {format_size(size, 'pixels')}."
    match preset.architecture.sizes:
        case "fixed" if own is not None and size != own:
            raise RequestError(
                f"{name} accepts only images of {format_size(own)}, because its position embeddings are not interpolated. "
                f"{received} Use {setting('image_size_px', plain_size(own))}."
            )
        case "patches" if isinstance(patch, int) and patch > 0 and (size[0] % patch or size[1] % patch):
            nearest_side = max(1, round(size[0] / patch)) * patch
            raise RequestError(
                f"{name} accepts only images whose sides are multiples of {patch} px, the size of its patches. {received} "
                f"Use {setting('image_size_px', nearest_side)}."
            )
        case "patches" if size[0] != size[1] and preset.architecture.is_square:
            raise RequestError(
                f"{name} accepts only square images. {received} Use {setting('image_size_px', size[0])}."
            )
        case "variable" if min(size) < MIN_SIDE_PX:
            raise RequestError(
                f"{name} requires images of at least {MIN_SIDE_PX} x {MIN_SIDE_PX} pixels. {received}"
            )
    return size
