"""`kerastl cache`: list and delete cached files."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import click

from kerastl import data, runs
from kerastl.cli import SuggestingGroup
from kerastl.cli._output import NumberRange, json_option

DAY_S = 86_400


@click.group("cache", cls=SuggestingGroup)
def command() -> None:
    """List and delete cached files. All runs share the cache folder.

    \b
    Example:
      kerastl cache ls
    """


@command.command("ls")
@json_option
def list_entries(as_json: bool) -> None:
    """List the cache entries, most recently used first. Prints kind, size, last use and content.

    \b
    Example:
      kerastl cache ls
    """
    entries = data.cache_entries()
    if as_json:
        plain = [_as_plain(entry) | {"in_use": data.is_in_use(entry)} for entry in entries]
        click.echo(json.dumps({"folder": str(data.cache_folder()), "entries": plain}, indent=1))
        return
    if entries:
        click.echo(f"{'kind':<12} {'size':>9}  {'last used':<14} content")
    for entry in entries:
        mark = "  [in use]" if data.is_in_use(entry) else ""
        click.echo(
            f"{entry.kind:<12} {runs.format_bytes(entry.num_bytes):>9}  {_ago(entry.last_used):<14} {entry.describe()}{mark}"
        )
    total = sum(entry.num_bytes for entry in entries)
    click.echo(f"{runs.format_bytes(total)} in {data.cache_folder()}")
    if entries:
        click.echo("To free disk space: kerastl cache prune --older-than 30 --dry-run")


@command.command("prune")
@click.option(
    "--keep-gb",
    type=NumberRange(0),
    metavar="N",
    help="Delete the least recently used entries until N GB (10^9 bytes) are left.",
)
@click.option(
    "--older-than",
    type=NumberRange(0),
    metavar="DAYS",
    help="Delete entries that have not been used for this number of days.",
)
@click.option("--all", "everything", is_flag=True, help="Delete all entries.")
@click.option("--dry-run", is_flag=True, help="Only list what would be deleted.")
@json_option
def prune(
    keep_gb: float | None, older_than: float | None, everything: bool, dry_run: bool, as_json: bool
) -> None:
    """Delete cached files, the least recently used first. Files in use by a running process are kept.

    Runs create missing files again. `kerastl verify` and `kerastl report` need the cached images of a finished run on
    phantoms or TensorFlow Datasets.

    \b
    Examples:
      kerastl cache prune --older-than 30 --dry-run
      kerastl cache prune --keep-gb 20
      kerastl cache prune --all
    """
    if keep_gb is None and older_than is None and not everything:
        raise click.UsageError("Specify --keep-gb N, --older-than DAYS, or --all.")
    if everything and (keep_gb is not None or older_than is not None):
        raise click.UsageError("--all cannot be combined with --keep-gb or --older-than.")
    pruned = data.prune_cache(
        keep_gb=0 if everything else keep_gb, older_than_days=older_than, dry_run=dry_run
    )
    if as_json:
        plain = {
            "removed": [_as_plain(entry) for entry in pruned.removed],
            "in_use": [_as_plain(entry) for entry in pruned.in_use],
            "kept_bytes": pruned.kept_bytes,
            "dry_run": dry_run,
        }
        click.echo(json.dumps(plain, indent=1))
        return
    _print_entries("to delete" if dry_run else "deleted", pruned.removed)
    _print_entries("in use", pruned.in_use)
    freed = runs.format_bytes(sum(entry.num_bytes for entry in pruned.removed))
    click.echo(
        f"{'Would free' if dry_run else 'Freed'} {freed}; {runs.format_bytes(pruned.kept_bytes)} "
        f"{'would be' if dry_run else 'are'} left."
    )


def _print_entries(state: str, entries: Sequence[data.Entry]) -> None:
    for entry in entries:
        click.echo(f"{state:<9} {entry.kind:<12} {runs.format_bytes(entry.num_bytes):>9}  {entry.describe()}")


def _as_plain(entry: data.Entry) -> dict[str, Any]:
    return {
        "kind": entry.kind,
        "path": str(entry.path),
        "bytes": entry.num_bytes,
        "last_used": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(entry.last_used)),
        "holds": entry.holds,
        "partial": entry.is_partial,
    }


def _ago(moment: float) -> str:
    """Return the time since a moment: `3 days ago`."""
    seconds = max(0.0, time.time() - moment)
    for name, size in (("day", DAY_S), ("hour", 3600), ("minute", 60)):
        count = int(seconds // size)
        if count:
            return f"{count} {name}{'' if count == 1 else 's'} ago"
    return "just now"
