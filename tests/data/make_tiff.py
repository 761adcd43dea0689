"""TIFF files with any layout, written without a TIFF library."""

import struct
from collections.abc import Sequence

NUMBER = {3: "H", 4: "I"}
SHORT, LONG = NUMBER


def directory(entries: dict[int, tuple[int, Sequence[int]]], start: int, order: str, is_last: bool) -> bytes:
    """An image file directory that starts at an offset, with its values behind it."""
    size = 2 + 12 * len(entries) + 4
    cells, values = b"", b""
    for tag, (kind, numbers) in sorted(entries.items()):
        data = struct.pack(f"{order}{len(numbers)}{NUMBER[kind]}", *numbers)
        cell = data.ljust(4, b"\0")
        if len(data) > 4:
            cell = struct.pack(f"{order}I", start + size + len(values))
            values += data + b"\0" * (len(data) % 2)
        cells += struct.pack(f"{order}HHI", tag, kind, len(numbers)) + cell
    following = 0 if is_last else start + size + len(values)
    return struct.pack(f"{order}H", len(entries)) + cells + struct.pack(f"{order}I", following) + values


def page(
    strips: Sequence[bytes],
    *,
    width: int,
    height: int,
    bits: Sequence[int] = (8,),
    photometric: int = 1,
    compression: int = 1,
    planar: int = 1,
    rows_per_strip: int | None = None,
    **tags: int,
) -> dict[str, object]:
    """A page for `tiff`. Other tags are given by number: `tag_254=1`."""
    entries = {
        256: (LONG, [width]), 257: (LONG, [height]), 258: (SHORT, bits), 259: (SHORT, [compression]),
        262: (SHORT, [photometric]), 277: (SHORT, [len(bits)]), 278: (LONG, [rows_per_strip or height]),
        279: (LONG, [len(strip) for strip in strips]), 284: (SHORT, [planar]),
    }  # fmt: skip
    entries |= {int(name.removeprefix("tag_")): (SHORT, [value]) for name, value in tags.items()}
    return {"strips": strips, "entries": entries}


def tiff(*pages: dict[str, object], order: str = "<") -> bytes:
    """A TIFF file of some pages."""
    offset = 8
    strip_offsets = []
    for each in pages:
        strip_offsets.append([])
        for strip in each["strips"]:
            strip_offsets[-1].append(offset)
            offset += len(strip) + len(strip) % 2
    content = b"".join(strip + b"\0" * (len(strip) % 2) for each in pages for strip in each["strips"])
    mark = b"II*\0" if order == "<" else b"MM\0*"
    content = mark + struct.pack(f"{order}I", offset) + content
    for index, each in enumerate(pages):
        entries = each["entries"] | {273: (LONG, strip_offsets[index])}
        content += directory(entries, len(content), order, index == len(pages) - 1)
    return content
