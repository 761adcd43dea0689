"""Write docs/images/augmentation_gallery.jpg (all operations) and docs/images/augmentation_figure.jpg (one policy).

The images are from scikit-learn, CC BY 2.0: flower.jpg (flickr.com/photos/vultilion/6056698931) and china.jpg
(flickr.com/photos/danielbuechele/6061409035).

Usage: python scripts/gallery.py [FOLDER]
"""

from __future__ import annotations

import io
import sys
import textwrap
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from kerastl import registry
from kerastl.augment import named_policy
from kerastl.augment.preview import Block, mixing_block, operation_block, policy_block

OUT = Path(__file__).parent.parent / "docs" / "images"
SIDE_PX = 96
"""Height and width of an augmented image."""
ACROSS = 4
"""Operations per row, each with two images."""
DPI = 100
QUALITY = 68
POLICY, ROWS, COLUMNS = "photograph", 3, 4
CREDIT = "scikit-learn's flower.jpg: vultilion on Flickr, CC BY 2.0"
CREDIT_CHINA = "; china.jpg: danielbuechele on Flickr, CC BY 2.0"


def square(image: np.ndarray, side: int) -> np.ndarray:
    """Return the central square of an image, resized to `[side, side, 3]`, float32 in [0, 255]."""
    height, width, _ = image.shape
    left = (width - height) // 2
    middle = Image.fromarray(image[:, left : left + height])
    return np.asarray(middle.resize((side, side), Image.Resampling.LANCZOS), np.float32)


def seeds(samples: int, batch: int) -> np.ndarray:
    """Return seeds `[samples, batch, 2]`, int32, the same in each call."""
    values = np.random.default_rng(16).integers(0, 2**31, (samples, batch, 2))
    return values.astype(np.int32)


def gallery(flower: np.ndarray, china: np.ndarray) -> list[Block]:
    """Return a block for every operation at strength 1 and for every mixing. The first row of each block is the flower."""
    blocks = []
    for name in registry.names("operation"):
        options = registry.module("operation", name).at_strength(1.0)
        blocks.append(operation_block((name, options), flower[None], seeds(2, 1)))
    both, labels = np.stack([flower, china]), np.array([0, 1], np.int32)
    for name in registry.names("mixing"):
        options = registry.options_of("mixing", name)(alpha=1.0)
        blocks.append(
            mixing_block((name, options), both, labels, seeds(8, 2), class_names=["flower", "china"])
        )
    return blocks


def cells(block: Block) -> list[tuple[str, np.ndarray]]:
    """Return two (caption, image) pairs of a block. For a mixing, both classes are visible in the images."""
    captions = block.captions[0] if block.captions else block.columns
    shown = list(zip(captions, block.images[0], strict=True))[1:]
    return [row for row in shown if not block.captions or "," in row[0]][:2]


def show(axis: Any, image: np.ndarray) -> None:
    """Show an image without interpolation."""
    axis.imshow(image, interpolation="none")
    axis.set_axis_off()


def save(figure: Any, out: Path) -> None:
    """Write a figure as a JPEG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=DPI)
    out.parent.mkdir(parents=True, exist_ok=True)
    Image.open(buffer).convert("RGB").save(out, quality=QUALITY, optimize=True)
    print(f"{out}: {out.stat().st_size / 1000:.0f} kB")


def draw_gallery(blocks: list[Block], original: np.ndarray, out: Path) -> None:
    """Write the gallery: the original, then two images per operation."""
    from matplotlib import pyplot as plt

    shown = [("original", [("", original)])] + [(block.title, cells(block)) for block in blocks]
    rows = -(-len(shown) // ACROSS)
    wide, high = SIDE_PX + 5, SIDE_PX + 58
    width, height = ACROSS * (2 * wide + 16) + 8, rows * high + 24
    figure = plt.figure(figsize=(width / DPI, height / DPI), facecolor="white")
    for index, (title, images) in enumerate(shown):
        left = 8 + index % ACROSS * (2 * wide + 16)
        top = index // ACROSS * high
        figure.text(left / width, 1 - (top + 11) / height, title, fontsize=8, weight="bold", va="center")
        for number, (caption, image) in enumerate(images):
            x = left + number * wide
            box = (x / width, 1 - (top + 20 + SIDE_PX) / height, SIDE_PX / width, SIDE_PX / height)
            show(figure.add_axes(box), image)
            lines = "\n".join(textwrap.wrap(caption, 21)[:4])
            y = 1 - (top + 22 + SIDE_PX) / height
            figure.text(x / width, y, lines, fontsize=5.8, va="top", color="0.35", linespacing=1.0)
    figure.text(8 / width, 10 / height, CREDIT + CREDIT_CHINA, fontsize=6.5, color="0.35", va="center")
    save(figure, out)
    plt.close(figure)


def draw_figure(flower: np.ndarray, out: Path) -> None:
    """Write the original next to samples of one policy."""
    from matplotlib import pyplot as plt

    block = policy_block(named_policy(POLICY), flower[None], seeds(ROWS * COLUMNS, 1))
    side, gap, head = SIDE_PX, 4, 22
    large = ROWS * side + (ROWS - 1) * gap
    width, height = large + 16 + COLUMNS * (side + gap) + 12, large + head + 22
    figure = plt.figure(figsize=(width / DPI, height / DPI), facecolor="white")

    def box(left: int, top: int, length: int) -> tuple[float, float, float, float]:
        return left / width, 1 - (top + length) / height, length / width, length / height

    show(figure.add_axes(box(8, head, large)), block.images[0, 0])
    for number, image in enumerate(block.images[0, 1:]):
        row, column = divmod(number, COLUMNS)
        left = large + 24 + column * (side + gap)
        small = Image.fromarray(image).resize((side, side), Image.Resampling.LANCZOS)
        show(figure.add_axes(box(left, head + row * (side + gap), side)), np.asarray(small))
    style = {"fontsize": 9, "weight": "bold", "va": "center"}
    figure.text(8 / width, 1 - head / 2 / height, "original", **style)
    figure.text((large + 24) / width, 1 - head / 2 / height, f"policy: {POLICY}", **style)
    figure.text(8 / width, 9 / height, CREDIT, fontsize=6.5, color="0.35", va="center")
    save(figure, out)
    plt.close(figure)


def main() -> None:
    """Write both images."""
    mpl.use("agg")
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else OUT
    china, flower = load_sample_images().images
    draw_gallery(
        gallery(square(flower, SIDE_PX), square(china, SIDE_PX)),
        square(flower, SIDE_PX).astype(np.uint8),
        folder / "augmentation_gallery.jpg",
    )
    draw_figure(square(flower, 3 * SIDE_PX + 8), folder / "augmentation_figure.jpg")


if __name__ == "__main__":
    main()
