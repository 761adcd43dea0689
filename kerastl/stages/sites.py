"""How well a model's features tell the sites apart, and whether the site alone tells the label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kerastl.evaluation.bootstrap import nothing, plain
from kerastl.recipe import Recipe
from kerastl.selection.domain_classifier import above_chance, site_tells_label, tell_apart, weighed
from kerastl.selection.evidence import Outputs
from kerastl.stages.held_out import HeldOut, Look, several_domains
from kerastl.stages.pictures import Pictures

LAYER = "pooled"
MOST_DOMAINS = 30


def sites_of(recipe: Recipe, pictures: Pictures, held_out: HeldOut, before: Look) -> dict[str, Any]:
    """Return what `scores.json` says of the sites, by the model that was not adapted.

    Args:
        recipe: its seed and resamples.
        pictures: training pictures of the source tell whether the site tells the label.
        held_out: what the model was shown.
        before: what it made of that.

    Returns:
        `{"layer", "target": {"source_splits", "target_splits", "before": M, "after": None}, "domains": {name: M}, "label":
        M, "warnings": [...]}`, M an AUC with its interval; without a target, or with one domain at the source, the parts
        about them are None.
    """
    several, how = several_domains(pictures), _how(recipe)
    label = _label(pictures, several, how)
    domains = _domains(before.val, held_out, several, how)
    target: dict[str, Any] | None = None
    if before.target is not None:
        target = {"source_splits": ["val"], "target_splits": list(held_out.target_splits)}
        target |= {"before": _apart(before.val, before.target, how), "after": None}
    told = {
        "layer": LAYER,
        "target": target,
        "domains": domains,
        "label": label,
        "warnings": _warnings(label, domains),
    }
    found: dict[str, Any] = plain(told)
    return found


def with_after(recipe: Recipe, told: dict[str, Any], after: Look | None) -> dict[str, Any]:
    """Return what `sites_of` told, with how well an adapted model still tells the target; None: none was adapted."""
    if after is None or after.target is None or told["target"] is None:
        return told
    apart = _apart(after.val, after.target, _how(recipe))
    return told | {"target": told["target"] | {"after": plain(apart)}}


def _how(recipe: Recipe) -> dict[str, Any]:
    return {"seed": recipe.seed, "resamples": recipe.evaluation.resamples}


def rest_of(seen: Look, shift: Mapping[str, Any], how: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the estimated prevalence leaves unexplained: it holds where nothing but prevalence differs.

    Args:
        seen: by the model that the prevalence was estimated with.
        shift: `label_shift` of its scores.
        how: `seed` and `resamples`.

    Returns:
        `{"explained", "rest"}`: the AUC by which the target's pictures are told from the source's, these weighed to the
        prevalence that EM found, and whether its interval reaches down to 0.5; None: that cannot be told.
    """
    if seen.target is None or "classes" not in shift:
        return {"explained": None, "rest": None}
    found, wanted = (
        [one[name]["value"] for one in shift["classes"].values()] for name in ("source", "em")
    )
    weights = weighed(seen.val.known_labels, found, wanted)
    rest = _apart(seen.val, seen.target, {**how, "weights_a": weights})
    told: dict[str, Any] = plain({"rest": rest})
    apart = above_chance(rest)
    return {"explained": None if apart is None else not apart, **told}


def _apart(a: Outputs, b: Outputs, how: dict[str, Any]) -> dict[str, Any]:
    return tell_apart(a.features, b.features, a.units, b.units, **how)


def _domains(
    val: Outputs, held_out: HeldOut, several: list[str], how: dict[str, Any]
) -> dict[str, Any] | None:
    """Return how well each domain of the source is told from its others, by validation pictures."""
    if not several:
        return None
    if len(several) > MOST_DOMAINS:
        reason = f"{len(several)} domains are more than {MOST_DOMAINS}"
        return {name: nothing(reason) for name in several}
    place = np.array([record.domain or "" for record in held_out.val.records])
    units = np.array(val.units)
    found: dict[str, Any] = {}
    for name in several:
        mine = place == name
        if len(several) == 2 and found:
            found[name] = found[several[0]]  # to tell the first from the second is the same
        elif mine.all() or not mine.any():
            found[name] = nothing("no validation picture of this domain, or of another")
        else:
            rows = val.features[mine], val.features[~mine]
            found[name] = tell_apart(*rows, list(units[mine]), list(units[~mine]), **how)
    return found


def _label(pictures: Pictures, several: list[str], how: dict[str, Any]) -> dict[str, Any] | None:
    records = [record for record in pictures.of("train") if record.domain and record.label]
    if not several or len({record.label for record in records}) < 2:
        return None
    labels = np.array([pictures.class_names.index(record.label or "") for record in records])
    sites = [record.domain or "" for record in records]
    groups = [f"{one.domain}/{one.group}" if one.group else "" for one in records]
    return {"from": "train", "sites": several} | site_tells_label(sites, labels, groups, **how)


def _warnings(label: dict[str, Any] | None, domains: dict[str, Any] | None) -> list[str]:
    if label is None or not label["shortcut"]:
        return []
    seen = any(above_chance(one) for one in (domains or {}).values())
    text = (
        "Among the training pictures the site alone predicts the label "
        f"(AUC {label['value']:.2f}, {label['low']:.2f} to {label['high']:.2f})"
    )
    if seen:
        text += ", and the model's features tell the sites apart"
    return [
        f"{text}. It may have learnt to know hospitals where it should know diseases: its scores at these sites say "
        "little of another one. Judge it where it never learnt, or even out the classes at each site."
    ]
