"""Policies by name: plain tables of operations, each justified in docs/augmentation.md. No TensorFlow.

What moves pixels stands together, and what changes colors, too: neighbors of one kind are done in one pass.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from kerastl.augment.parse_operations import Operation, parse_operations
from kerastl.errors import RequestError

PolicyName = Literal["light", "medium", "strong", "radiograph", "photograph"]
"""Those of `POLICIES` that change something."""
POLICIES: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "none": (),
    # No mirror, no color: what changes neither a letter nor an organ; gray images, too.
    "light": (
        {"name": "random_rotation", "max_deg": 5},
        {"name": "random_translation", "max_fraction": 0.05},
        {"name": "random_zoom", "max_fraction": 0.05},
        {"name": "random_brightness", "max_fraction": 0.1},
        {"name": "random_contrast", "max_fraction": 0.1},
    ),
    # All of light, stronger, and what is safe where left and right, and the strength of colors, mean nothing.
    "medium": (
        {"name": "random_flip", "direction": "horizontal"},
        {"name": "random_rotation", "max_deg": 10},
        {"name": "random_translation", "max_fraction": 0.1},
        {"name": "random_zoom", "max_fraction": 0.1},
        {"name": "random_brightness", "max_fraction": 0.15},
        {"name": "random_contrast", "max_fraction": 0.2},
        {"name": "random_saturation", "max_fraction": 0.2},
    ),
    # All of medium, stronger, and what hides: other hues, blur, a part of the image.
    "strong": (
        {"name": "random_flip", "direction": "horizontal"},
        {"name": "random_rotation", "max_deg": 20},
        {"name": "random_translation", "max_fraction": 0.15},
        {"name": "random_zoom", "max_fraction": 0.25},
        {"name": "random_brightness", "max_fraction": 0.25},
        {"name": "random_contrast", "max_fraction": 0.4},
        {"name": "random_saturation", "max_fraction": 0.4},
        {"name": "random_hue", "max_deg": 15},
        {"name": "random_gaussian_blur", "max_sigma_px": 1.0, "apply_probability": 0.3},
        {"name": "random_cutout", "max_fraction": 0.4, "apply_probability": 0.5},
    ),
    # No mirror (the side of the heart, the side marker), no color, nothing that hides a finding or inverts levels.
    "radiograph": (
        {"name": "random_rotation", "max_deg": 7},
        {"name": "random_translation", "max_fraction": 0.05},
        {"name": "random_zoom", "max_fraction": 0.1},
        {"name": "random_brightness", "max_fraction": 0.1},
        {"name": "random_contrast", "max_fraction": 0.2},
        {"name": "random_gaussian_blur", "max_sigma_px": 0.8, "apply_probability": 0.3},
    ),
    # Another view of the same thing: mirrored, nearer, in other light. Never upside down.
    "photograph": (
        {"name": "random_flip", "direction": "horizontal"},
        {"name": "random_crop_and_resize", "min_area_fraction": 0.6},
        {
            "name": "random_color_jitter",
            "max_brightness_fraction": 0.15,
            "max_contrast_fraction": 0.2,
            "max_saturation_fraction": 0.2,
            "max_hue_deg": 7,
            "apply_probability": 0.8,
        },
    ),
}


def named_policy(name: str) -> list[Operation]:
    """Return the operations of a named policy, for `build_policy`.

    Args:
        name: none, light, medium, strong, radiograph or photograph.

    Returns:
        (name, options) in their order; a list of the caller's own, to add to and take from.

    Raises:
        RequestError: no such policy; the text names the nearest.
    """
    if name not in POLICIES:
        near = difflib.get_close_matches(name, POLICIES, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise RequestError(f"There is no policy '{name}'.{hint} Known: {', '.join(POLICIES)}.")
    return parse_operations(POLICIES[name])
