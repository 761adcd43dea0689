"""Presets of KerasHub: preprocessing, features, blocks, and files from outside."""

import json
import shutil
from types import SimpleNamespace

import h5py
import keras
import numpy as np
import pytest
from click.testing import CliRunner
from hub_backbones import NAMES, OFFSET, SCALE, build, save_preset

import kerastl
from kerastl import models
from kerastl import recipe as recipes
from kerastl.cli.weights import command as weights_command
from kerastl.errors import Problems, RequestError
from kerastl.models import (
    build_backbone,
    get_blocks,
    load_backbone,
    pooling_problem,
    possible_blocks,
    preset_findings,
    split_at_block,
)
from kerastl.models.hub import load_layers
from kerastl.models.hub_presets import absolute_name, published_presets, read_preset, resolve_preset_size
from kerastl.recipe import rules

VIT = {
    "image_shape": [32, 32, 3],
    "patch_size": [8, 8],
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 16,
    "mlp_dim": 32,
}


def write_preset(folder, class_name="ViTBackbone", config=None, **files):
    """Write the files of a preset without weights."""
    folder.mkdir(exist_ok=True)
    content = {
        "module": f"keras_hub.src.models.{class_name.removesuffix('Backbone').lower()}",
        "class_name": class_name,
        "config": VIT if config is None else config,
        "registered_name": f"keras_hub>{class_name}",
    }
    for name, value in {"config": content, **files}.items():
        (folder / f"{name}.json").write_text(value if isinstance(value, str) else json.dumps(value))
    return f"keras_hub/{folder}"


def message_of(function, *args, **options):
    with pytest.raises(RequestError) as error:
        function(*args, **options)
    return str(error.value)


@pytest.fixture(scope="session")
def vit_preset(tmp_path_factory):
    return save_preset(build("vit"), tmp_path_factory.mktemp("vit") / "tiny_vit")


def pixels(size=32, count=2):
    return np.random.default_rng(1).uniform(0, 255, (count, size, size, 3)).astype(np.float32)


def features_of_keras_hub(backbone, images, scale=SCALE, offset=OFFSET):
    """Return what KerasHub computes for images, preprocessed by its own converter."""
    import keras_hub

    converter = keras_hub.layers.ImageConverter(scale=list(scale), offset=list(offset))
    inputs = converter(images)
    if isinstance(backbone.input, dict):
        inputs = {next(iter(backbone.input)): inputs}
    return np.asarray(backbone(inputs, training=False))


def relative_error(values, expected):
    return np.abs(np.asarray(values, np.float64) - expected).max() / np.abs(expected).max()


def test_preset_has_the_features_of_keras_hub_and_one_block_per_transformer_layer(vit_preset, tmp_path):
    model = build_backbone(f"keras_hub/{vit_preset}")
    assert relative_error(model(pixels()), features_of_keras_hub(build("vit"), pixels())) < 1e-5
    assert [block.name for block in get_blocks(model)] == [
        "vit_patching_and_embedding", "transformer_block_1", "transformer_block_2",
    ]  # fmt: skip
    trunk, tail = split_at_block(model, "transformer_block_1")
    assert relative_error(tail(trunk(pixels())), model(pixels())) < 1e-6
    model.save(tmp_path / "model.keras")
    assert np.array_equal(keras.saving.load_model(tmp_path / "model.keras")(pixels()), model(pixels()))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_backbone_has_the_features_of_keras_hub(name, tmp_path):
    import keras_hub

    folder = save_preset(build(name), tmp_path / name)
    model = build_backbone(f"keras_hub/{folder}", image_size_px=32)
    expected = features_of_keras_hub(keras_hub.models.Backbone.from_preset(str(folder)), pixels())
    assert relative_error(model(pixels()), expected) < 1e-5
    blocks = get_blocks(model)
    layers = [layer for block in blocks for layer in block.layers]
    assert layers == [layer.name for layer in model.layers]
    assert {block.name for block in blocks} <= set(possible_blocks(f"keras_hub/{folder}"))
    for block in blocks[:-1]:
        if block.edge:
            trunk, tail = split_at_block(model, block.name)
            assert relative_error(tail(trunk(pixels())), expected) < 1e-5
    model.save(tmp_path / "model.keras")
    assert relative_error(keras.saving.load_model(tmp_path / "model.keras")(pixels()), expected) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(("name", "pooling"), [("clip_with_text", "cls"), ("siglip_with_text", "auto")])
def test_the_vision_encoder_of_a_model_of_images_and_texts_is_the_backbone(name, pooling, tmp_path):
    both = build(name)
    folder = save_preset(both, tmp_path / name)
    model = build_backbone(f"keras_hub/{folder}", image_size_px=32)
    expected = features_of_keras_hub(both.vision_encoder, pixels())
    assert relative_error(model(pixels()), expected) < 1e-5
    assert not [layer.name for layer in model.layers if "text" in layer.name]
    classifier = kerastl.build_classifier(f"keras_hub/{folder}", class_names=["a", "b"], pooling=pooling)
    classifier.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert np.array_equal(loaded(pixels()), classifier(pixels()))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet", "densenet", "efficientnet"])
def test_blocks_end_at_the_levels_of_the_pyramid_of_keras_hub(name, tmp_path):
    backbone = build(name)
    pyramid = [tensor._keras_history.operation.name for tensor in backbone.pyramid_outputs.values()]
    folder = save_preset(backbone, tmp_path / name)
    blocks = get_blocks(build_backbone(f"keras_hub/{folder}", image_size_px=64))
    ends = [edge for block in blocks for edge in block.edge]
    assert set(pyramid[:-1]) <= set(ends)


@pytest.mark.slow
def test_position_embeddings_are_interpolated_for_another_size(tmp_path):
    folder = save_preset(build("dinov2"), tmp_path / "dinov2")
    name = f"keras_hub/{folder}"
    import keras_hub

    expected = keras_hub.models.Backbone.from_preset(str(folder), image_shape=(48, 48, 3))
    model = build_backbone(name, image_size_px=48)
    assert relative_error(model(pixels(48)), features_of_keras_hub(expected, pixels(48))) < 1e-5
    embeddings = model.get_layer("embeddings")
    embeddings.interpolated_position_embeddings.assign_add(
        keras.random.normal(embeddings.interpolated_position_embeddings.shape, seed=1)
    )
    model.save(tmp_path / "trained.keras")
    saved = keras.saving.load_model(tmp_path / "trained.keras")
    assert np.array_equal(saved(pixels(48)), model(pixels(48)))
    assert "multiples of 8 px" in message_of(resolve_preset_size, name, 50)


@pytest.mark.slow
def test_real_preset_has_the_features_of_keras_hub_on_real_images(assets, photos):
    import keras_hub
    from PIL import Image

    folder = assets / "keras_hub" / "efficientnet_lite0"
    images = np.stack([
        np.asarray(Image.open(path).convert("RGB").resize((224, 224)), np.float32)
        for path in sorted(photos.rglob("*.jpg"))[:8]
    ])  # fmt: skip
    converter = keras_hub.layers.ImageConverter.from_preset(str(folder))
    backbone = keras_hub.models.Backbone.from_preset(str(folder))
    loaded = load_backbone(f"keras_hub/{folder}")
    assert (
        relative_error(loaded.model(images), np.asarray(backbone(converter(images), training=False))) < 1e-5
    )
    assert loaded.model.input_shape == (None, 224, 224, 3)
    assert len(get_blocks(loaded.model)) == 18


@pytest.mark.slow
def test_pooling_selects_class_token_and_patches(vit_preset):
    tokens = features_of_keras_hub(build("vit"), pixels())
    cls, mean = tokens[:, 0], tokens[:, 1:].mean(axis=1)
    for pooling, expected in {"auto": cls, "mean": mean, "cls_mean": np.concatenate([cls, mean], 1)}.items():
        model = kerastl.build_classifier(f"keras_hub/{vit_preset}", class_names=["a", "b"], pooling=pooling)
        pooled = keras.Model(model.inputs[0], model.get_layer("pooled").output)
        assert relative_error(pooled(pixels()), expected) < 1e-5


def test_a_pooling_that_does_not_fit_is_refused_with_those_that_do():
    assert [
        pooling_problem("cls", rank, prefix) for rank, prefix in [(4, None), (3, 0), (3, 1), (2, None)]
    ] == [
        "cls is not possible, because the backbone has no tokens: it returns feature maps. Use pooling='auto' or 'mean'.",
        "cls is not possible, because the backbone has no class token. Use pooling='auto', 'mean' or 'map'.",
        "",
        "cls is not possible, because the backbone has no tokens: it returns features that are pooled already. Use "
        "pooling='auto'.",
    ]


@pytest.mark.slow
def test_register_tokens_are_not_pooled(tmp_path):
    folder = save_preset(build("dinov2_with_registers"), tmp_path / "dino")
    tokens = features_of_keras_hub(build("dinov2_with_registers"), pixels())
    model = kerastl.build_classifier(f"keras_hub/{folder}", class_names=["a", "b"], pooling="mean")
    pooled = keras.Model(model.inputs[0], model.get_layer("pooled").output)
    assert relative_error(pooled(pixels()), tokens[:, 5:].mean(axis=1)) < 1e-5


def test_each_damaged_or_hostile_preset_is_refused_with_the_reason(tmp_path):
    nested = VIT | {"dtype": {"module": "os", "class_name": "system", "config": {}}}
    alias = VIT | {
        "dtype": {"module": "keras", "class_name": "DTypePolicy", "registered_name": "keras_hub>T5Tokenizer"}
    }
    cases = {
        "missing": f"keras_hub/{tmp_path / 'nothing'}",
        "empty": write_preset(tmp_path / "a", config=""),
        "not json": write_preset(tmp_path / "b", config="{"),
    }
    (tmp_path / "b" / "config.json").write_text("{")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "config.json").write_text("[" * 100_000)
    cases |= {
        "deep": f"keras_hub/{tmp_path / 'deep'}",
        "text model": write_preset(tmp_path / "c", "BertBackbone"),
        "code": write_preset(tmp_path / "d", config=nested),
        "another class": write_preset(tmp_path / "e", config=alias),
        "huge": write_preset(tmp_path / "f", config=VIT | {"num_layers": 10**9}),
    }
    messages = {
        name: message_of(read_preset, path).replace(str(tmp_path), "DIR") for name, path in cases.items()
    }
    assert messages["missing"] == "There is no preset folder DIR/nothing."
    assert (
        messages["not json"]
        == messages["deep"].replace("deep", "b")
        == "DIR/b/config.json is not a JSON file."
    )
    assert "'BertBackbone', which is not an image backbone" in messages["text model"]
    assert (
        messages["code"]
        == "DIR/d/config.json contains the class 'os.system', which a backbone does not need."
    )
    assert "'keras.DTypePolicy'" in messages["another class"]
    assert "1000000000" in messages["huge"]
    assert "no settings" in messages["empty"]


CONVERTER = "image_converter"


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"config": [VIT]}, "config.json is not a JSON object"),
        (
            {"config": {"model_type": "vit"}},
            "has the format of another library. Convert it: keras_hub.models.",
        ),
        ({"config": " " * 2**20 + "{}"}, "config.json is larger than 1,048,576 bytes"),
        (
            {"config": {"registered_name": "keras_hub>ViTBackbone", "a": [0] * 100_001}},
            "a list of 100,001 values",
        ),
        ({CONVERTER: {"config": {"data_format": "channels_first"}}}, "has channels first"),
        (
            {CONVERTER: {"config": {"scale": [1, 2]}}},
            r"scale must be a number or three numbers, got \[1, 2\]",
        ),
        ({CONVERTER: {"config": {"offset": "0"}}}, "offset must be a number or three numbers, got '0'"),
    ],
    ids=["list", "other library", "large", "long", "channels", "two scales", "text"],
)
def test_files_of_other_libraries_and_unusable_converters_are_refused(tmp_path, files, reason):
    name = write_preset(tmp_path / "preset")
    for file, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / "preset" / f"{file}.json").write_text(text)
    with pytest.raises(RequestError, match=reason):
        read_preset(name)


def test_shards_outside_the_folder_are_refused(tmp_path):
    (tmp_path / "secret.weights.h5").write_bytes(b"")
    shards = {"weight_map": {"layer": ["../secret.weights.h5"]}}
    preset = read_preset(write_preset(tmp_path / "preset", **{"model.weights": shards}))
    assert "no file '../secret.weights.h5'" in message_of(preset.weight_files)


def test_weights_file_with_a_link_is_refused_before_keras_hub_opens_it(vit_preset, tmp_path):
    folder = shutil.copytree(vit_preset, tmp_path / "linked")
    with h5py.File(folder / "model.weights.h5", "a") as file:
        file["more"] = h5py.ExternalLink("/etc/passwd", "/")
    assert "/more is a link" in message_of(build_backbone, f"keras_hub/{folder}")


def test_every_shard_is_checked_although_the_first_one_has_trained_weights(vit_preset, tmp_path):
    folder = shutil.copytree(vit_preset, tmp_path / "shards")
    shutil.copy(folder / "model.weights.h5", folder / "a.h5")
    with h5py.File((folder / "model.weights.h5").rename(folder / "b.h5"), "a") as file:
        file["more"] = h5py.ExternalLink("/etc/passwd", "/")
    (folder / "model.weights.json").write_text(json.dumps({"weight_map": {"/layers": ["a.h5", "b.h5"]}}))
    result = CliRunner().invoke(weights_command, ["verify", f"keras_hub/{folder}"])
    assert "/more is a link" in str(result.exception)


def truncated(folder):
    file = folder / "model.weights.h5"
    file.write_bytes(file.read_bytes()[:-1])


def of_another_class(folder):
    write_preset(folder, "DINOV2Backbone", {"image_shape": [32, 32, 3], "patch_size": 8})


def of_a_convolutional_network(folder):
    write_preset(folder, "ResNetBackbone", {"image_shape": [None, None, 3]})


def smaller(folder):
    with h5py.File(folder / "model.weights.h5", "a") as file:
        del file["layers/vi_t_encoder/encoder_layers/vi_t_encoder_block"]


def without_arrays(folder):
    with h5py.File(folder / "model.weights.h5", "w"):
        pass


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (truncated, "truncated file"),
        (of_another_class, "config.json describes DINOV2Backbone, but the weights belong to ViTBackbone"),
        (
            of_a_convolutional_network,
            "config.json describes ResNetBackbone, but the weights belong to ViTBackbone",
        ),
        (smaller, "but metadata.json states 7,856"),
        (without_arrays, "the weights belong to another class"),
    ],
)
def test_check_refuses_weights_that_are_damaged_or_of_another_preset(vit_preset, tmp_path, change, reason):
    folder = shutil.copytree(vit_preset, tmp_path / "changed")
    name = f"keras_hub/{folder}"
    assert list(preset_findings(recipes.Backbone(name=name), 32, None)) == []
    change(folder)
    ((where, message),) = preset_findings(recipes.Backbone(name=name), 32, None)
    assert where == "backbone.name"
    assert reason in message
    assert reason in message_of(build_backbone, name, image_size_px=32)
    assert list(preset_findings(recipes.Backbone(name=name, weights="none"), 32, None)) == []


def problems_of_blocks(name, *blocks):
    """Return what the check of a recipe reports for phases from these blocks on."""
    phases = [
        kerastl.Phase(block, epochs=1, trainable=recipes.FromBlock(from_block=block)) for block in blocks
    ]
    recipe = SimpleNamespace(
        backbone=recipes.Backbone(name=name),
        source=None,
        phases=phases,
        data=SimpleNamespace(image_size_px=32),
    )
    return dict(rules.backbone_findings(recipe, models))


def test_blocks_of_a_preset_are_checked_without_building_it(vit_preset, tmp_path):
    names = [block.name for block in get_blocks(build_backbone(f"keras_hub/{vit_preset}"))]
    assert problems_of_blocks(f"keras_hub/{vit_preset}", *names) == {}
    assert problems_of_blocks(f"keras_hub/{vit_preset}", *names, "transformer_block_3") == {
        "phases[3].trainable.from_block": "keras_hub/tiny_vit has no block 'transformer_block_3'. "
        f"Blocks: {', '.join(names)}."
    }
    resnet = write_preset(tmp_path / "resnet", "ResNetBackbone", {"image_shape": [None, None, 3]})
    found = problems_of_blocks(resnet, "P3", "conv4_block1", "bogus")
    assert found.keys() == {"backbone.name", "phases[2].trainable.from_block"}


def test_trained_weights_without_an_image_converter_need_a_scale(vit_preset, tmp_path):
    folder = shutil.copytree(vit_preset, tmp_path / "bare")
    (folder / "image_converter.json").unlink()
    assert "its pixel range is unknown" in message_of(build_backbone, f"keras_hub/{folder}")
    model = build_backbone(f"keras_hub/{folder}", scale=SCALE, offset=OFFSET)
    assert relative_error(model(pixels()), features_of_keras_hub(build("vit"), pixels())) < 1e-5


def test_converter_inside_the_preprocessor_is_read(tmp_path):
    converter = {
        "config": {"image_size": [32, 32], "scale": 0.5, "offset": [1, 2, 3], "pad_to_aspect_ratio": True}
    }
    name = write_preset(tmp_path / "preset", preprocessor={"config": {"image_converter": converter}})
    preset = read_preset(name)
    assert preset.choose_scaling() == (0.5, [1, 2, 3], "")
    assert (preset.size, preset.resize) == ((32, 32), "pad")


def test_sizes_that_the_positions_do_not_allow_are_refused(tmp_path):
    vit = write_preset(tmp_path / "vit")
    dino = write_preset(tmp_path / "dino", "DINOV2Backbone", {"patch_size": 14, "image_shape": [518, 518, 3]})
    assert resolve_preset_size(vit, None) == (32, 32)
    assert "accepts only images of 32 x 32 px" in message_of(resolve_preset_size, vit, 64)
    assert resolve_preset_size(dino, 224) == (224, 224)
    assert "multiples of 14 px" in message_of(resolve_preset_size, dino, 160)
    assert "only square images" in message_of(resolve_preset_size, dino, (28, 56))


def test_published_preset_that_is_not_downloaded_states_the_command(monkeypatch, tmp_path):
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))
    name = next(name for name in published_presets() if name.startswith("vit_"))
    assert f"kerastl weights fetch keras_hub/{name}" in message_of(read_preset, f"keras_hub/{name}")
    assert "Did you mean" in message_of(read_preset, f"keras_hub/{name[:-1]}")
    handle = published_presets()[name]["handle"].removeprefix("kaggle://")
    folder = tmp_path / "models" / handle
    folder.parent.mkdir(parents=True)
    write_preset(folder)
    assert read_preset(f"keras_hub/{name}").folder == folder


def test_path_of_a_preset_becomes_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert absolute_name("keras_hub/presets/mine") == f"keras_hub/{tmp_path}/presets/mine"
    assert absolute_name("keras_hub/vit_base") == "keras_hub/vit_base"
    (tmp_path / "mine").mkdir()
    assert absolute_name("keras_hub/mine") == f"keras_hub/{tmp_path}/mine"


@pytest.mark.slow
def test_weights_of_a_run_replace_those_of_the_preset(vit_preset, tmp_path):
    """The classifier of the run has a head, other weights, and the pooling of the class token."""
    name = f"keras_hub/{vit_preset}"
    trained = kerastl.build_classifier(name, class_names=["a", "b", "c"], weights=None, seed=5)
    (tmp_path / "run").mkdir()
    trained.save(tmp_path / "run" / "model.keras")
    for weights in (tmp_path / "run", tmp_path / "run" / "model.keras"):
        loaded = load_backbone(name, weights=weights, seed=9)
        assert loaded.weights_path == tmp_path / "run" / "model.keras"
        tokens = keras.Model(trained.inputs[0], trained.get_layer(loaded.model.layers[-1].name).output)
        assert relative_error(loaded.model(pixels()), tokens(pixels())) < 1e-6
    assert relative_error(loaded.model(pixels()), build_backbone(name)(pixels())) > 0.01


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"mlp_dim": 48}, "layer transformer_block_1: expected shapes"),
        ({"num_layers": 3}, "layer transformer_block_3: is in the file, but not in tiny_vit"),
        ({"num_layers": 1}, "found no such layer"),
    ],
)
def test_weights_of_another_architecture_are_refused_by_layer(vit_preset, tmp_path, config, problem):
    other = write_preset(tmp_path / "other", config=VIT | config)
    kerastl.build_classifier(other, class_names=["a", "b"], weights=None).save(tmp_path / "other.keras")
    name = f"keras_hub/{vit_preset}"
    message = message_of(load_backbone, name, weights=tmp_path / "other.keras")
    assert problem in message
    assert message.endswith("It belongs to a different architecture than tiny_vit.")


def test_a_weights_file_without_layer_names_is_refused_for_a_preset(tmp_path):
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save_weights(tmp_path / "x.weights.h5")
    with pytest.raises(RequestError, match=r"must be a \.keras file or a run folder, got"):
        load_layers(tmp_path / "x.weights.h5", keras.Sequential())


def test_the_suggested_weights_of_a_preset_are_its_own(tmp_path):
    name = write_preset(tmp_path / "tiny")
    sets = ["data.reader.path=x", f"backbone={{name: {name}, weights: none}}"]
    with pytest.raises(Problems) as refused:
        recipes.check(recipes.find("folder-classifier").text, name="x", sets=sets)
    assert any(
        str(problem).endswith("Use trainable: all, or weights: preset.") for problem in refused.value.problems
    )
