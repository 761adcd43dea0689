"""Named policies, explained in docs/augmentation.md. TensorFlow is not imported.

Geometric operations are adjacent, and so are color operations, because adjacent operations of one kind run in
one pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from kerastl.augment.operation_options import Operation, parse_operations
from kerastl.errors import RequestError, did_you_mean

PolicyName = Literal["light", "medium", "strong", "radiograph", "photograph"]
"""Names of the policies that change images."""
POLICIES: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "none": (),
    # No flip and no color change: safe for letters and organs; works on grayscale images.
    "light": (
        {"name": "random_rotation", "max_deg": 5},
        {"name": "random_translation", "max_fraction": 0.05},
        {"name": "random_zoom", "max_fraction": 0.05},
        {"name": "random_brightness", "max_fraction": 0.1},
        {"name": "random_contrast", "max_fraction": 0.1},
    ),
    # Stronger than light, with operations that are safe where orientation and saturation carry no information.
    "medium": (
        {"name": "random_flip", "direction": "horizontal"},
        {"name": "random_rotation", "max_deg": 10},
        {"name": "random_translation", "max_fraction": 0.1},
        {"name": "random_zoom", "max_fraction": 0.1},
        {"name": "random_brightness", "max_fraction": 0.15},
        {"name": "random_contrast", "max_fraction": 0.2},
        {"name": "random_saturation", "max_fraction": 0.2},
    ),
    # Stronger than medium, with hue, blur and masking.
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
    # No flip (side of the heart, side markers), no color, nothing that hides findings or inverts levels.
    "radiograph": (
        {"name": "random_rotation", "max_deg": 7},
        {"name": "random_translation", "max_fraction": 0.05},
        {"name": "random_zoom", "max_fraction": 0.1},
        {"name": "random_brightness", "max_fraction": 0.1},
        {"name": "random_contrast", "max_fraction": 0.2},
        {"name": "random_gaussian_blur", "max_sigma_px": 0.8, "apply_probability": 0.3},
    ),
    # Another view of the same object: flipped, closer, in other light. Never upside down.
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
        name: `none`, `light`, `medium`, `strong`, `radiograph` or `photograph`.

    Returns:
        A new list of (name, options), in order.

    Raises:
        RequestError: If there is no such policy.
    """
    if name not in POLICIES:
        raise RequestError(f"Unknown policy '{name}'. {did_you_mean(name, tuple(POLICIES))}")
    return parse_operations(POLICIES[name])
