"""The one decoder against Pillow, in eager mode, in tf.data and in a SavedModel."""

import io
import struct

import numpy as np
import pytest
import tensorflow as tf
from pictures_drawn import by_pillow, encoded, noise, png_of_any_size, smooth
from PIL import Image, ImageOps

from kerastl.data.decode import decode_image, load_image


def decoded(content: bytes, **options) -> np.ndarray:
    return decode_image(tf.constant(content), **options).numpy()


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_lossless_kinds_are_decoded_exactly_as_pillow_does(kind, mode):
    content = encoded(noise(), kind, mode)
    if (kind, mode) == ("BMP", "1"):
        with pytest.raises(tf.errors.InvalidArgumentError, match="8, 24 or 32 bits"):
            decoded(content)
        return
    image = decoded(content)
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image, by_pillow(content))


def test_gif_shows_its_first_frame_and_never_unpacks_the_others():
    frames = [Image.fromarray(noise(seed=seed)).convert("P") for seed in range(4)]
    stream = io.BytesIO()
    frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:])
    whole = stream.getvalue()
    np.testing.assert_array_equal(decoded(whole), by_pillow(whole))
    # Everything behind the first frame is nonsense: a decoder that looks at it would fail.
    second = whole.index(b"\x21\xf9\x04", 13 + 768 + 40)
    np.testing.assert_array_equal(decoded(whole[:second] + b"\x99" * 50), by_pillow(whole))


def test_lossless_webp_is_decoded_exactly_and_lossy_webp_closely():
    content = encoded(noise(), "WEBP", lossless=True)
    np.testing.assert_array_equal(decoded(content), by_pillow(content))
    content = encoded(smooth(), "WEBP", quality=80)
    assert np.abs(decoded(content) - by_pillow(content)).max() <= 2


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_is_within_two_levels_of_pillow(mode, progressive):
    content = encoded(smooth(), "JPEG", mode, quality=90, progressive=progressive)
    assert np.abs(decoded(content) - by_pillow(content)).max() <= 2


@pytest.mark.parametrize(
    ("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True, "exact": True})]
)
def test_transparency_is_laid_on_white(kind, options):
    content = encoded(noise(channels=4), kind, **options)
    layer = Image.open(io.BytesIO(content)).convert("RGBA")
    white = Image.new("RGBA", layer.size, "white")
    wanted = np.asarray(Image.alpha_composite(white, layer).convert("RGB"), np.float32)
    assert np.abs(decoded(content) - wanted).max() <= 1


def test_one_transparent_colour_of_a_png_becomes_white():
    pixels = noise()
    pixels[3, 4] = (1, 2, 3)
    content = encoded(pixels, "PNG", transparency=(1, 2, 3))
    image = decoded(content)
    np.testing.assert_array_equal(image[3, 4], [255, 255, 255])
    np.testing.assert_array_equal(image[0, 0], pixels[0, 0])


def test_sixteen_bit_grey_keeps_all_its_levels():
    levels = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    image = decoded(encoded(levels), window=(0, 4095))
    assert len(np.unique(image)) == 4096
    np.testing.assert_allclose(image[..., 1], levels * (255 / 4095), atol=1e-4)


def test_a_window_clips_what_lies_beyond_it():
    levels = np.array([[0, 1000, 1500, 2000, 65535]], np.uint16)
    image = decoded(encoded(levels), window=(1000, 2000))
    np.testing.assert_allclose(image[0, :, 0], [0, 0, 127.5, 255, 255])


def test_without_a_window_the_full_range_of_sixteen_bits_is_shown():
    levels = np.array([[0, 257, 65535]], np.uint16)
    np.testing.assert_allclose(decoded(encoded(levels))[0, :, 2], [0, 1, 255], atol=1e-4)


def test_eight_bit_pictures_ignore_the_window():
    content = encoded(noise())
    np.testing.assert_array_equal(decoded(content, window=(1000, 2000)), decoded(content))


def test_sixteen_bit_colour_is_divided_by_257():
    pixels = np.random.default_rng(1).integers(0, 65536, (5, 7, 3), dtype=np.uint16)
    content = tf.io.encode_png(pixels).numpy()
    np.testing.assert_allclose(decoded(content), pixels / 257, rtol=1e-6)


def test_an_empty_window_is_refused():
    with pytest.raises(ValueError, match="low < high"):
        decoded(encoded(noise()), window=(5, 5))


def with_orientation(content: bytes, value: int, order: str = "<", kind: int = 3) -> bytes:
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(order + "HHIHH", 0x0112, kind, 1, value, 0)
    tiff = mark + struct.pack(order + "IH", 8, 1) + entry + bytes(4)
    segment = b"Exif\0\0" + tiff
    return content[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + content[2:]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("value", range(1, 9))
def test_every_exif_orientation_is_turned_upright_as_pillow_does(value, order):
    content = with_orientation(encoded(smooth(), "JPEG", quality=95), value, order)
    wanted = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    image = decoded(content)
    assert image.shape[:2] == wanted.size[::-1]
    assert np.abs(image - np.asarray(wanted, np.float32)).max() <= 2


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_impossible_orientation_counts_as_upright(value):
    plain = encoded(smooth(), "JPEG")
    np.testing.assert_array_equal(decoded(with_orientation(plain, value)), decoded(plain))


@pytest.mark.parametrize(
    "segment",
    [
        b"Exif\0\0",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0XX*\0\x08\0\0\0",
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff",
    ],
)
def test_broken_exif_counts_as_upright(segment):
    plain = encoded(smooth(), "JPEG")
    broken = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + plain[2:]
    np.testing.assert_array_equal(decoded(broken), decoded(plain))


def test_a_true_picture_of_144_million_pixels_is_refused_before_it_is_unpacked():
    content = png_of_any_size(12_000, 12_000, whole=True)
    with pytest.raises(tf.errors.InvalidArgumentError, match="12000 x 12000 pixels"):
        decoded(content)
    assert decoded(png_of_any_size(120, 90, whole=True), max_pixels=120 * 90).shape == (90, 120, 3)
    with pytest.raises(tf.errors.InvalidArgumentError, match="limit of 10799 pixels"):
        decoded(png_of_any_size(120, 90, whole=True), max_pixels=120 * 90 - 1)


def huge_headers() -> dict[str, bytes]:
    """Files of which only the header is true: 30,000 x 30,000 pixels, nothing behind it."""
    side = 30_000
    jpeg = bytearray(encoded(smooth(), "JPEG"))
    start = jpeg.index(b"\xff\xc0") + 5
    jpeg[start : start + 4] = struct.pack(">HH", side, side)
    gif = bytearray(encoded(noise(), "GIF", "P"))
    gif[6:10] = struct.pack("<HH", side, side)
    bmp = bytearray(encoded(noise(), "BMP"))
    bmp[18:26] = struct.pack("<ii", side, -side)
    extended = b"VP8X" + struct.pack("<I", 10) + bytes(4) + (side - 1).to_bytes(3, "little") * 2
    lossless = b"VP8L" + struct.pack("<I", 9) + b"\x2f"
    lossless += ((14_999) | (14_999 << 14)).to_bytes(4, "little") + bytes(4)
    lossy = (
        b"VP8 " + struct.pack("<I", 10) + b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 15_000, 15_000)
    )

    def riff(chunk: bytes) -> bytes:
        return b"RIFF" + struct.pack("<I", len(chunk) + 4) + b"WEBP" + chunk

    return {
        "png": png_of_any_size(side, side, whole=False),
        "jpeg": bytes(jpeg),
        "gif": bytes(gif),
        "bmp": bytes(bmp),
        "webp extended": riff(extended),
        "webp lossless": riff(lossless),
        "webp lossy": riff(lossy),
    }


@pytest.mark.parametrize("kind", huge_headers())
def test_every_kind_is_refused_by_the_size_in_its_header(kind):
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"(30000|15000) x (30000|15000) pixels"
    ):
        decoded(huge_headers()[kind])


def test_a_gif_frame_larger_than_its_canvas_is_refused():
    gif = bytearray(encoded(noise(), "GIF", "P"))
    frame = gif.index(b"\x2c", 13 + 768)
    gif[frame + 5 : frame + 9] = struct.pack("<HH", 30_000, 30_000)
    with pytest.raises(tf.errors.InvalidArgumentError, match="30000 x 30000 pixels"):
        decoded(bytes(gif))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a picture"),
        (b"P", "not a picture"),
        (b"hello, world", "not a picture"),
        (b"II*\0" + bytes(40), "TIFF"),
        (b"MM\0*" + bytes(40), "TIFF"),
    ],
)
def test_what_cannot_be_decoded_is_refused_by_name(content, reason):
    with pytest.raises(tf.errors.InvalidArgumentError, match=reason):
        decoded(content)


def test_an_animated_webp_is_refused_by_name():
    frames = [Image.fromarray(noise(seed=seed)) for seed in range(2)]
    stream = io.BytesIO()
    frames[0].save(stream, "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    with pytest.raises(tf.errors.InvalidArgumentError, match="animated WebP"):
        decoded(stream.getvalue())


KINDS = ["PNG", "JPEG", "GIF", "BMP", "WEBP"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_cut_at_any_place_raises_and_never_crashes(kind):
    content = encoded(noise(12, 9), kind)
    for length in [*range(40), *range(40, len(content) - 40, max(1, len(content) // 40))]:
        with pytest.raises(tf.errors.InvalidArgumentError):
            decoded(content[:length])


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_with_wrong_bytes_decodes_or_raises_and_never_crashes(kind):
    content = np.frombuffer(encoded(noise(12, 9), kind), np.uint8)
    rng = np.random.default_rng(3)
    for _ in range(100):
        broken = content.copy()
        places = rng.integers(0, min(len(broken), 64), 3)
        broken[places] = rng.integers(0, 256, 3)
        try:
            image = decoded(broken.tobytes(), max_pixels=100_000)
        except tf.errors.InvalidArgumentError:
            continue
        assert image.ndim == 3
        assert image.shape[2] == 3


def test_resizing_is_pillows_antialiased_bilinear():
    content = encoded(smooth(120, 200))
    wanted = Image.open(io.BytesIO(content)).resize((48, 48), Image.Resampling.BILINEAR)
    image = load_image(tf.constant(content), image_size_px=48).numpy()
    assert image.dtype == np.float32
    assert np.abs(image - np.asarray(wanted, np.float32)).max() <= 1.5


def test_shrinking_a_fine_checkerboard_gives_even_grey():
    board = np.indices((128, 128)).sum(0) % 2 * np.uint8(255)
    image = load_image(tf.constant(encoded(board.astype(np.uint8))), image_size_px=16).numpy()
    assert np.abs(image[2:-2, 2:-2] - 127.5).max() < 8


def test_white_stays_within_the_promised_range():
    content = encoded(np.full((333, 517, 3), 255, np.uint8))
    image = load_image(tf.constant(content), image_size_px=96).numpy()
    assert image.max() <= 255
    assert image.min() > 254.99


class Decoder(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def __call__(self, content):
        return load_image(content, image_size_px=24, window=(100, 3000), max_pixels=1_000_000)


def samples() -> list[bytes]:
    levels = np.arange(2048, dtype=np.uint16).reshape(32, 64)
    rotated = with_orientation(encoded(smooth(), "JPEG"), 6)
    alpha = encoded(noise(channels=4), "PNG")
    return [encoded(noise(), kind) for kind in KINDS] + [encoded(levels), rotated, alpha]


def test_eager_tf_data_and_a_saved_model_give_the_same_bytes(tmp_path):
    contents = samples()
    options = {"image_size_px": 24, "window": (100, 3000), "max_pixels": 1_000_000}
    eager = [load_image(tf.constant(content), **options).numpy() for content in contents]
    dataset = tf.data.Dataset.from_tensor_slices(contents)
    mapped = list(dataset.map(lambda content: load_image(content, **options), 2))
    tf.saved_model.save(Decoder(), str(tmp_path))
    saved = tf.saved_model.load(str(tmp_path))
    for content, here, there in zip(contents, eager, mapped, strict=True):
        np.testing.assert_array_equal(here, there.numpy())
        np.testing.assert_array_equal(here, saved(tf.constant(content)).numpy())


def test_tf_data_and_a_saved_model_refuse_a_huge_picture_too(tmp_path):
    content = png_of_any_size(12_000, 12_000, whole=False)
    dataset = tf.data.Dataset.from_tensors(content).map(
        lambda content: load_image(content, image_size_px=24)
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match="12000 x 12000"):
        list(dataset)
    tf.saved_model.save(Decoder(), str(tmp_path))
    with pytest.raises(tf.errors.InvalidArgumentError, match="12000 x 12000"):
        tf.saved_model.load(str(tmp_path))(tf.constant(content))


def test_the_decoder_is_stateless_but_for_one_assertion():
    """Under op determinism tf.data calls a function with other stateful operations one at a time."""
    from kerastl.data.decode import FULL_WINDOW, _decoder

    graph = _decoder(FULL_WINDOW, 1000).get_concrete_function().graph.as_graph_def()
    inner = [node.op for function in graph.library.function for node in function.node_def]
    assert {"StatelessWhile", "StatelessIf", "StatelessCase", "DecodePng"} <= set(inner)
    assert not {"Assert", "If", "Case", "While", "StatefulPartitionedCall"} & set(inner)
    assert [node.op for node in graph.node].count("Assert") == 1
