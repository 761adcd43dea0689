"""Heatmaps, compared with attention that NumPy computes from the weights, and with the known positions of objects in images."""

import io
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.special import erf, expit, softmax

from kerastl.data.decode import placement, resize_image
from kerastl.errors import RequestError
from kerastl.evaluation import Heatmap, Trained, explain_images
from kerastl.evaluation.heatmaps import explain, heatmap_problem, scale_heatmaps, split_at_pooling
from kerastl.models import build_model, load_own_model, recorded_attention

sys.path.append(str(Path(__file__).parents[1] / "models"))
from hub_backbones import OFFSET, SCALE, build

CLASS_NAMES = ("cat", "dog", "bird")
UNKNOWN_GRID = "the rows and columns of its patches are unknown"
RULES = ("stretch", "pad", "crop")


def classifier(name):
    loaded = load_own_model(build(name), scale=SCALE, offset=OFFSET)
    return head_for(loaded.model, "auto", loaded.num_prefix_tokens)


def images():
    return np.random.default_rng(4).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)


def wide():
    return np.random.default_rng(1).uniform(0, 255, (2, 16, 32, 3)).astype(np.float32)


def most_probable(logits):
    return tf.argmax(logits, axis=-1)


def norm(x, layer):
    scale, offset = layer.get_weights()
    centered = x - x.mean(axis=-1, keepdims=True)
    return centered / np.sqrt((centered**2).mean(axis=-1, keepdims=True) + layer.epsilon) * scale + offset


def dense(x, layer):
    kernel, bias = layer.get_weights()
    return x @ kernel + bias


def gelu(x):
    return x * (1 + erf(x / np.sqrt(2))) / 2


def attend(query, x, layer):
    """Return the output and the scores `[n, heads, queries, keys]` of multihead attention."""
    weights = [weight.astype(np.float64) for weight in layer.get_weights()]
    inputs = (query, x, x)
    q, k, v = (
        np.einsum("ntd,dhe->nhte", inputs[part], weights[2 * part]) + weights[2 * part + 1][:, None]
        for part in range(3)
    )
    scores = softmax(q @ k.transpose(0, 1, 3, 2) / np.sqrt(q.shape[-1]), axis=-1)
    return np.einsum("nhte,hed->ntd", scores @ v, weights[6]) + weights[7], scores


def vit_block(x, block):
    normed = norm(x, block.layer_norm_1)
    output, scores = attend(normed, normed, block.mha)
    x = x + output
    return x + dense(gelu(dense(norm(x, block.layer_norm_2), block.mlp.dense_1)), block.mlp.dense_2), scores


def dinov2_block(x, block):
    normed = norm(x, block.norm1)
    output, scores = attend(normed, normed, block.attention.attention)
    x = x + output * block.layer_scale1.get_weights()[0]
    gates, values = np.split(dense(norm(x, block.norm2), block.mlp.weights_in), 2, axis=-1)
    y = dense(gates * expit(gates) * values, block.mlp.weights_out)
    return x + y * block.layer_scale2.get_weights()[0], scores


BLOCKS = {"vit": (vit_block, "ViTEncoderBlock", 1), "dinov2_with_registers": (dinov2_block, "DINOV2Layer", 5)}


@pytest.mark.slow
@pytest.mark.parametrize("name", BLOCKS)
def test_rollout_equals_the_product_of_the_attention_matrices_of_numpy(name):
    loaded = load_own_model(build(name), scale=SCALE, offset=OFFSET)
    block, kind, prefix = BLOCKS[name]
    layers = [layer for layer in loaded.model.layers if type(layer).__name__ == kind]
    x = keras.Model(loaded.model.input, layers[0].input)(images()).numpy().astype(np.float64)
    all_scores = []
    for layer in layers:
        x, scores = block(x, layer)
        all_scores.append(scores)
    tokens = loaded.model(images()).numpy().astype(np.float64)
    assert norm(x, loaded.model.layers[-1]) == pytest.approx(tokens, abs=1e-4)
    rollout = rollout_matrix(all_scores)
    for pooling in ("cls", "mean", "cls_mean", "map"):
        model = head_for(loaded.model, pooling, prefix)
        shares = {"cls": rollout[:, 0], "mean": rollout[:, prefix:].mean(axis=1)}
        shares["cls_mean"] = (shares["cls"] + shares["mean"]) / 2
        if pooling == "map":
            layer = model.get_layer("attention_pooling")
            probe = np.repeat(layer.probe.numpy(), len(tokens), axis=0)
            weights = attend(probe, tokens[:, prefix:], layer.attention)[1].mean(axis=1)
            shares["map"] = (weights @ rollout[:, prefix:])[:, 0]
        evidence, labels = explain(split_at_pooling(model), images(), most_probable)
        assert evidence.numpy() == pytest.approx(shares[pooling][:, prefix:].reshape(-1, 4, 4), abs=1e-5)
        assert labels.numpy().tolist() == model(images()).numpy().argmax(axis=-1).tolist()


def rollout_matrix(all_scores):
    """Return the product of the matrices of all layers `[n, tokens, tokens]`, each with the identity added."""
    identity = np.eye(all_scores[0].shape[-1])
    rollout = identity
    for scores in all_scores:
        mixed = scores.mean(axis=1) + identity
        rollout = mixed / mixed.sum(axis=-1, keepdims=True) @ rollout
    return rollout


@pytest.mark.slow
def test_recorded_scores_of_dinov3_reproduce_the_output_of_its_attention():
    layer = next(layer for layer in build("dinov3").layers if hasattr(layer, "layers")).layers[0].attention
    random = np.random.default_rng(1)
    x = random.normal(size=(2, 21, 16)).astype(np.float32)
    angles = random.uniform(0, 6, (16, 8)).astype(np.float32)
    with recorded_attention(layer) as scores:
        output = layer(x, position_embeddings=(np.cos(angles), np.sin(angles)), num_prefix_tokens=5)
    values = dense(x, layer.value_dense).reshape(2, 21, 2, 8).transpose(0, 2, 1, 3)
    mixed = (scores[0].numpy() @ values).transpose(0, 2, 1, 3).reshape(2, 21, 16)
    assert dense(mixed, layer.output_dense) == pytest.approx(output.numpy(), abs=1e-5)
    assert np.ptp(scores[0].numpy()) > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("name", ["deit", "dinov3", "siglip", "clip"])
def test_every_preset_of_tokens_has_a_rollout_on_its_patches(name):
    parts = split_at_pooling(classifier(name))
    evidence, _ = explain(parts, images(), most_probable)
    assert (parts.method, parts.problem, evidence.shape) == ("attention_rollout", "", (2, 4, 4))
    assert np.ptp(evidence.numpy(), axis=(1, 2)).min() > 0


class UnknownAttention(keras.layers.Layer):
    """Attention whose scores cannot be read."""

    def call(self, x):
        return keras.ops.softmax(x @ keras.ops.swapaxes(x, 1, 2)) @ x


def own_transformer(*, attention=None, has_class_token=False, returns_scores=False):
    """A user's transformer with one layer: patches of 8 px of an image of 16 x 32 px."""
    keras.utils.set_random_seed(2)
    image = keras.Input((16, 32, 3))
    x = keras.layers.Conv2D(6, 8, strides=8)(keras.layers.Rescaling(1 / 127.5, -1)(image))
    x = keras.layers.Reshape((8, 6))(x)
    if has_class_token:
        x = keras.layers.ZeroPadding1D((1, 0))(x)
    x = keras.layers.LayerNormalization(beta_initializer="random_normal")(x)
    if attention is None:
        y = keras.layers.MultiHeadAttention(2, 3)(x, x, return_attention_scores=returns_scores)
        x = keras.layers.Add()([x, y[0] if returns_scores else y])
    else:
        x = keras.layers.Add()([x, attention(x)])
    return keras.Model(image, x)


def head_for(backbone, pooling, prefix):
    return build_model(backbone, class_names=CLASS_NAMES, pooling=pooling, num_prefix_tokens=prefix)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_rollout_of_a_custom_transformer_equals_numpy_however_it_calls_attention(pooling):
    prefix = int(pooling == "cls")
    for returns_scores in (True, False):
        backbone = own_transformer(has_class_token=pooling == "cls", returns_scores=returns_scores)
        parts = split_at_pooling(head_for(backbone, pooling, prefix))
        assert (parts.method, parts.grid) == ("attention_rollout", (2, 4))
        layer = next(layer for layer in backbone.layers if isinstance(layer, keras.layers.MultiHeadAttention))
        x = keras.Model(backbone.input, layer.input[0])(wide()).numpy().astype(np.float64)
        rollout = rollout_matrix([attend(x, x, layer)[1]])
        wanted = rollout[:, 0, 1:] if prefix else rollout.mean(axis=1)
        evidence, _ = explain(parts, wide(), most_probable)
        assert evidence.numpy() == pytest.approx(wanted.reshape(2, 2, 4), abs=1e-5)
        assert np.ptp(wanted) > 0.001


def test_tokens_with_unknown_attention_have_grad_cam_of_the_class():
    """With average pooling and one Dense layer, Grad-CAM weights each channel by the weight of the head for the class."""
    model = head_for(own_transformer(attention=UnknownAttention()), "mean", 0)
    parts = split_at_pooling(model)
    assert (parts.method, parts.problem) == ("grad_cam", "")
    evidence, _ = explain(parts, wide(), lambda logits: tf.constant([2, 0]))
    kernel = model.get_layer("head").get_weights()[0] / 8
    wanted = np.maximum(np.einsum("ntc,cn->nt", parts.trunk(wide()).numpy(), kernel[:, [2, 0]]), 0)
    assert evidence.numpy() == pytest.approx(wanted.reshape(-1, 2, 4), abs=1e-5)
    assert evidence.numpy().max() > 0


@pytest.mark.parametrize(
    ("layers", "method", "problem"),
    [
        ([keras.layers.Conv1D(6, 3, padding="same")], "grad_cam", ""),
        ([keras.layers.Permute((2, 1)), keras.layers.Dense(8), keras.layers.Permute((2, 1))], "grad_cam", ""),
        ([keras.layers.Dense(6, activation="tanh")], "attention_rollout", ""),
        ([keras.layers.Lambda(lambda x: x[:, ::-1])], "grad_cam", UNKNOWN_GRID),
    ],
)
def test_rollout_is_for_tokens_that_only_attention_mixes(layers, method, problem):
    backbone = own_transformer()
    tokens = backbone.output
    for layer in layers:
        tokens = layer(tokens)
    parts = split_at_pooling(head_for(keras.Model(backbone.input, tokens), "mean", 0))
    assert (parts.method, parts.problem) == (method, problem)


@pytest.mark.parametrize(
    ("size", "grid", "problem"),
    [((16, 16), (4, 4), ""), ((16, 32), None, UNKNOWN_GRID), ((None, None), None, UNKNOWN_GRID)],
)
def test_tokens_behind_overlapping_convolutions_are_on_a_square_or_an_unknown_grid(size, grid, problem):
    image = tokens = keras.Input((*size, 3))
    for _ in range(2):
        tokens = keras.layers.Conv2D(8, 3, strides=2, padding="same")(tokens)
    pooled = keras.layers.GlobalAveragePooling1D()(keras.layers.Reshape((-1, 8))(tokens))
    parts = split_at_pooling(keras.Model(image, keras.layers.Dense(3)(pooled)))
    assert (parts.grid, parts.problem) == (grid, problem)


def test_tokens_that_are_averaged_over_patches_have_no_grid():
    """Four averages of a row of patches each are not on a square grid."""
    image = keras.Input((16, 16, 3))
    patches = keras.layers.Reshape((16, 8))(keras.layers.Conv2D(8, 4, strides=4)(image))
    pooled = keras.layers.GlobalAveragePooling1D()(keras.layers.AveragePooling1D(4)(patches))
    assert heatmap_problem(keras.Model(image, keras.layers.Dense(3)(pooled))) == UNKNOWN_GRID


def test_tokens_that_bypass_the_pooling_have_no_heatmaps():
    backbone = own_transformer()
    average = keras.layers.GlobalAveragePooling1D()(backbone.output)
    first = keras.layers.Flatten()(keras.layers.Cropping1D((0, 7))(backbone.output))
    logits = keras.layers.Dense(3)(keras.layers.Concatenate()([first, average]))
    assert split_at_pooling(keras.Model(backbone.input, logits)) is None


def test_grad_cam_of_a_binary_head_differs_between_its_classes():
    """The class of the constant logit is explained by what lowers the other logit."""
    backbone = own_transformer(attention=UnknownAttention())
    model = build_model(
        backbone, class_names=("cat", "dog"), binary=True, pooling="mean", num_prefix_tokens=0
    )
    parts = split_at_pooling(model)
    tokens, kernel = parts.trunk(wide()).numpy(), model.get_layer("head").get_weights()[0][:, 0]
    for label, sign in enumerate((-1, 1)):
        evidence, _ = explain(parts, wide(), lambda logits, label=label: tf.constant([label, label]))
        wanted = np.maximum(sign * tokens @ kernel / 16, 0).reshape(-1, 2, 4)
        assert evidence.numpy() == pytest.approx(wanted, abs=1e-5)
        assert wanted.max() > 0


def test_models_without_heatmaps_have_a_reason():
    unknown = own_transformer(attention=UnknownAttention(), has_class_token=True)
    assert heatmap_problem(head_for(unknown, "cls", 1)) == (
        "it pools the class token, and its attention scores are unknown"
    )
    vector = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten()])
    model = build_model(vector, class_names=CLASS_NAMES)
    assert "does not pool" in heatmap_problem(model)
    with pytest.raises(RequestError, match="There are no heatmaps for this model: it does not pool"):
        explain_images(Trained(CLASS_NAMES, (8, 8), None, 10_000, model), [b""])


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(file, "PNG")
    return file.getvalue()


shapes = st.tuples(st.integers(1, 60), st.integers(1, 60))


@settings(deadline=None, max_examples=30)
@given(shape=shapes, grid=st.tuples(st.integers(1, 5), st.integers(1, 5)), cell=st.integers(1, 6))
def test_only_cells_wholly_in_padding_are_0(shape, grid, cell):
    size = (grid[0] * cell, grid[1] * cell)
    white = resize_image(tf.fill([*shape, 3], 255.0), size, "pad").numpy()[..., 0]
    is_image = white.reshape(grid[0], cell, grid[1], cell).max(axis=(1, 3)) > 0
    shown = placement(shape, size, "pad")
    heatmap = scale_heatmaps(tf.fill([1, *grid], 0.2), shown.before[None], shown.inner[None], size)
    assert heatmap[0].numpy() == pytest.approx(is_image.astype(float))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("shape", [(40, 100), (90, 50)])
def test_heatmap_on_the_original_image_is_where_the_object_is(rule, shape):
    """An object of the original image is bright; the heatmap is the brightness of the cells of the resized image."""
    original = np.zeros((*shape, 3), np.float32)
    row, column = shape[0] // 2 + 3, shape[1] // 2 - 7
    original[row - 4 : row + 4, column - 4 : column + 4] = 255
    size, cell = (32, 48), 2
    resized = resize_image(tf.constant(original), size, rule).numpy()[..., 0]
    cells = resized.reshape(size[0] // cell, cell, size[1] // cell, cell).mean(axis=(1, 3))
    on_image = Heatmap(cells / cells.max(), "cat", shape, size, rule).on_image()
    assert on_image.shape == shape
    is_seen = ~np.isnan(on_image)
    assert is_seen.all() == (rule != "crop")
    center = np.argwhere(np.nan_to_num(on_image) > 0.7).mean(axis=0)
    assert np.abs(center - (row - 0.5, column - 0.5)).max() < 2
    height, width = size
    shown = min(1.0, width * shape[0] / (height * shape[1])), min(1.0, height * shape[1] / (width * shape[0]))
    wanted = shape[0] * shape[1] * shown[0] * shown[1] if rule == "crop" else shape[0] * shape[1]
    assert is_seen.sum() == pytest.approx(wanted, rel=0.05)


@pytest.fixture(scope="module")
def trained():
    keras.utils.set_random_seed(1)
    image = keras.Input((24, 24, 3), name="image")
    x = keras.layers.Conv2D(8, 4, strides=4, activation="relu")(keras.layers.Rescaling(1 / 64, -1.0)(image))
    x = keras.layers.GlobalAveragePooling2D(name="pooled")(x)
    model = keras.Model(image, keras.layers.Dense(3, name="head")(x))
    return Trained(CLASS_NAMES, (24, 24), None, 100_000, model, resize="pad")


@pytest.mark.slow
def test_images_are_explained_without_their_padding_and_for_any_class(trained):
    pixels = np.random.default_rng(2).integers(0, 255, (60, 20, 3))
    heatmaps = [explain_images(trained, [png(pixels)], class_name=name)[0] for name in CLASS_NAMES]
    for heatmap in heatmaps:
        assert heatmap.values[:, [0, 1, 4, 5]].max() == 0  # the image is 8 of 24 pixels wide
        assert heatmap.values.max() in (0, 1)
    assert max(heatmap.values.max() for heatmap in heatmaps) == 1
    label = trained.predict([png(pixels)])[0][0]
    (predicted,) = explain_images(trained, [png(pixels)])
    assert predicted.class_name == label
    assert predicted.values.tolist() == heatmaps[CLASS_NAMES.index(label)].values.tolist()
    assert predicted.on_image().shape == (60, 20)
    with pytest.raises(RequestError, match="unknown class 'dug'"):
        explain_images(trained, [png(pixels)], class_name="dug")


@pytest.mark.slow
def test_rollout_of_one_class_is_refused():
    model = head_for(own_transformer(), "mean", 0)
    token_model = Trained(CLASS_NAMES, (16, 32), None, 100_000, model)
    assert explain_images(token_model, [png(np.zeros((16, 32, 3)))])[0].values.shape == (2, 4)
    with pytest.raises(RequestError, match="the same for all classes"):
        explain_images(token_model, [png(np.zeros((16, 32, 3)))], class_name="dog")
