"""GIF files with any layout, written without a GIF library."""

import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

PALETTE, OTHER_PALETTE = (
    np.random.default_rng(seed).integers(0, 256, (256, 3), dtype=np.uint8) for seed in (3, 4)
)


class Frame(NamedTuple):
    """A frame of a GIF: its colors `[height, width]`, its position, palette, transparent color and order of rows."""

    colors: np.ndarray
    left: int = 0
    top: int = 0
    palette: np.ndarray | None = None
    transparent: int | None = None
    is_interlaced: bool = False


def gif(width: int, height: int, *frames: Frame, palette: np.ndarray | None = PALETTE) -> bytes:
    """A GIF file of some frames."""
    content = b"GIF89a" + struct.pack("<HHBBB", width, height, 0xF7 if palette is not None else 0, 9, 0)
    content += b"" if palette is None else palette.tobytes()
    for frame in frames:
        rows = frame.colors
        if frame.is_interlaced:
            rows = np.concatenate([rows[0::8], rows[4::8], rows[2::4], rows[1::2]])
        if frame.transparent is not None:
            content += b"\x21\xf9\x04\1\0\0" + bytes([frame.transparent, 0])
        flags = 0x40 * frame.is_interlaced + (0x87 if frame.palette is not None else 0)
        content += b"\x2c" + struct.pack("<4HB", frame.left, frame.top, *frame.colors.shape[::-1], flags)
        content += b"" if frame.palette is None else frame.palette.tobytes()
        content += compressed(rows.ravel().tolist())
    return content + b"\x3b"


def compressed(colors: Sequence[int]) -> bytes:
    """Colors as LZW codes of 9 bits in sub-blocks. The dictionary is cleared before codes would need 10 bits."""
    clear, end = 256, 257
    codes = [code for start in range(0, len(colors), 250) for code in (clear, *colors[start : start + 250])]
    number = sum(code << 9 * index for index, code in enumerate([*codes, end]))
    data = number.to_bytes(-(-9 * (len(codes) + 1) // 8), "little")
    blocks = [data[start : start + 255] for start in range(0, len(data), 255)]
    return b"\x08" + b"".join(bytes([len(block)]) + block for block in blocks) + b"\0"
