"""`kerastl cache`: what is kept between runs, and how to get its room back."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from kerastl.data import Entry

DAY_S = 86_400


@click.group("cache")
def command() -> None:
    """List and prune what is kept between runs in the cache folder.

    \b
    Example:
      kerastl cache ls
    """


@command.command("ls")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for a program.")
def list_entries(as_json: bool) -> None:
    """List what is kept, the latest used first: kind, size, last use, what it holds.

    \b
    Example:
      kerastl cache ls
    """
    from kerastl.data import cache_entries, cache_folder, is_in_use
    from kerastl.runs import format_bytes

    found = cache_entries()
    if as_json:
        told = [_told(one) | {"in_use": is_in_use(one)} for one in found]
        click.echo(json.dumps({"folder": str(cache_folder()), "entries": told}, indent=1))
        return
    if found:
        click.echo(f"{'kind':<12} {'size':>9}  {'last used':<14} holds")
    for one in found:
        mark = "  [in use]" if is_in_use(one) else ""
        click.echo(
            f"{one.kind:<12} {format_bytes(one.num_bytes):>9}  {_ago(one.last_used):<14} {one.words()}{mark}"
        )
    total = sum(one.num_bytes for one in found)
    click.echo(f"{format_bytes(total)} in {cache_folder()}")
    if found:
        click.echo("To get room back: kerastl cache prune --older-than 30 --dry-run")


@command.command("prune")
@click.option("--keep-gb", type=click.FloatRange(0), metavar="N", help="Until N GB (10^9 bytes) are left.")
@click.option("--older-than", type=click.FloatRange(0), metavar="DAYS", help="What was not used for DAYS.")
@click.option("--all", "everything", is_flag=True, help="Everything.")
@click.option("--dry-run", is_flag=True, help="Only tell what would go.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for a program.")
def prune(
    keep_gb: float | None, older_than: float | None, everything: bool, dry_run: bool, as_json: bool
) -> None:
    """Remove what was not used for longest. What a running process uses stays.

    A run that asks for something that is gone makes it anew: activations are computed, phantoms drawn, images of
    TensorFlow Datasets written out, files decoded once. `kerastl verify` and `kerastl report` of a finished run on
    phantoms or TensorFlow Datasets want its images.

    \b
    Examples:
      kerastl cache prune --older-than 30 --dry-run
      kerastl cache prune --keep-gb 20
      kerastl cache prune --all
    """
    if keep_gb is None and older_than is None and not everything:
        raise click.UsageError("Say what may go: --keep-gb N, --older-than DAYS, or --all.")
    if everything and (keep_gb is not None or older_than is not None):
        raise click.UsageError("--all leaves nothing for --keep-gb or --older-than to keep.")
    from kerastl.data import prune_cache
    from kerastl.runs import format_bytes

    done = prune_cache(keep_gb=0 if everything else keep_gb, older_than_days=older_than, dry_run=dry_run)
    if as_json:
        told: dict[str, Any] = {
            "removed": [_told(one) for one in done.removed],
            "in_use": [_told(one) for one in done.in_use],
            "kept_bytes": done.kept_bytes,
            "dry_run": dry_run,
        }
        click.echo(json.dumps(told, indent=1))
        return
    _print_each("would go" if dry_run else "removed", done.removed)
    _print_each("in use", done.in_use)
    room = format_bytes(sum(one.num_bytes for one in done.removed))
    click.echo(
        f"{'Would free' if dry_run else 'Freed'} {room}; {format_bytes(done.kept_bytes)} "
        f"{'would be' if dry_run else 'are'} left."
    )


def _print_each(what: str, some: Sequence[Entry]) -> None:
    from kerastl.runs import format_bytes

    for one in some:
        click.echo(f"{what:<9} {one.kind:<12} {format_bytes(one.num_bytes):>9}  {one.words()}")


def _told(entry: Entry) -> dict[str, Any]:
    return {
        "kind": entry.kind,
        "path": str(entry.path),
        "bytes": entry.num_bytes,
        "last_used": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(entry.last_used)),
        "holds": entry.holds,
        "partial": entry.is_partial,
    }


def _ago(moment: float) -> str:
    """Return how long ago a moment was: `3 days ago`."""
    seconds = max(0.0, time.time() - moment)
    for name, size in (("day", DAY_S), ("hour", 3600), ("minute", 60)):
        count = int(seconds // size)
        if count:
            return f"{count} {name}{'' if count == 1 else 's'} ago"
    return "just now"
