"""Images as rows and as details: pure functions of the inventory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from vmlab_tui.base.text import clean_line
from vmlab_tui.base.units import duration, size
from vmlab_tui.lab.graph import ImageEntry, Inventory, User
from vmlab_tui.tui.labview import key_of
from vmlab_tui.tui.widgets.rows import Cell, Row
from vmlab_tui.verbs.words import age, local

if TYPE_CHECKING:
    from vmlab_tui.images.store import Image

_FRESH = {
    "as recipe": ("as recipe", "good"),
    "recipe changed": ("changed", "warn"),
    "recipe not found": ("not found", "warn"),
}
"""What `verbs.images.freshness` says, as it stands under the head *recipe*."""


def image_rows(found: Inventory, fresh: Mapping[str, str]) -> list[Row]:
    """``fresh``: by name, what `verbs.images.freshness` says; missing as long as it is not known."""
    return [_row(entry, fresh) for entry in found.images]


def _row(entry: ImageEntry, fresh: Mapping[str, str]) -> Row:
    image = entry.image
    state = fresh.get(image.name, "...") if image else "former build" if entry.former else "BROKEN"
    told, tone = _FRESH.get(state, (state, "bad" if entry.problem else "dim"))
    used = sum(user.kind != "template" for user in entry.users)
    proven = "-" if image is None else "yes" if image.proven else "no"
    search = [
        ("", entry.name),
        ("image", entry.name),
        ("state", state),
        ("state", "used" if used else "unused"),
    ]
    if image:
        search.append(("state", "proven" if image.proven else "unproven"))
    return Row(
        key_of(entry.key),
        (
            Cell(clean_line(entry.name), "dim" if entry.former else ""),
            Cell(size(entry.used) if entry.used is not None else "?"),
            Cell(size(image.virtual_size) if image else "-"),
            Cell(age(image.created) if image else "-"),
            Cell(told, "bad" if entry.problem else tone),
            Cell(proven, "" if proven == "yes" else "dim"),
            Cell(f"{used} VM{'s' if used != 1 else ''}" if used else "unused", "" if used else "dim"),
        ),
        search=tuple(search),
    )


def image_details(entry: ImageEntry, fresh: Mapping[str, str]) -> list[tuple[str, str]]:
    """(label, text) lines about an image; who stands on it is told elsewhere."""
    return [(label, clean_line(text, 400)) for label, text in _lines(entry, fresh)]


def _lines(entry: ImageEntry, fresh: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    if entry.problem:
        yield "problem", entry.problem
    if entry.former:
        yield "former", "an earlier build: its file stays as long as VMs stand on it"
    if image := entry.image:
        yield "size", f"{size(image.disk_size)} on the disk, {size(image.virtual_size)} for the guest"
        yield "made", f"{local(image.created)} ({age(image.created)} ago)"
        yield "recipe", _recipe(image, fresh.get(image.name, ""))
        yield "proven", "has booted and answered SSH" if image.proven else "not booted by vmlab yet"
        yield "login", image.user or "-"
        yield "boots by", image.firmware
        if image.kernel:
            yield "kernel", image.kernel
        yield "from", str(image.source or "-")
        if image.phases:
            yield "took", ", ".join(f"{name} {duration(seconds)}" for name, seconds in image.phases.items())
        yield "sha256", image.digest
    if entry.path:
        yield "file", str(entry.path)


def _recipe(image: Image, state: str) -> str:
    if not image.recipe:
        return "none: imported"
    told = {
        "as recipe": "the image is as it says",
        "recipe changed": "it has changed since: b builds the image anew",
        "recipe not found": "it is not found any more",
    }
    return f"{image.recipe}: {told.get(state, state)}" if state else image.recipe


def user_rows(entry: ImageEntry) -> list[Row]:
    """Who stands on an image."""
    return [
        Row(
            "\x1f".join((user.kind, user.id)),
            (Cell(clean_line(user.name), "" if user.own else "dim"), Cell(_whose(user), "dim")),
            search=(("", user.name),),
        )
        for user in entry.users
    ]


def _whose(user: User) -> str:
    if user.kind == "template":
        return "template"
    if user.kind == "vm":
        return "VM" if user.own else "foreign VM"
    return "files only" if user.kind == "left" else "in the trash"
