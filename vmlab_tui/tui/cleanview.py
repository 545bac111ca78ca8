"""A clean-up as rows and as details: pure functions of what was judged."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from vmlab_tui.base.text import clean_line
from vmlab_tui.base.units import size
from vmlab_tui.tui.widgets.rows import Cell, Row
from vmlab_tui.verbs.clean_shapes import old
from vmlab_tui.verbs.words import age

if TYPE_CHECKING:
    from vmlab_tui.lab.graph import Key
    from vmlab_tui.lab.reach import Judgement, Thing
    from vmlab_tui.lab.trash import Entry

SEPARATOR = "\x1f"


def key_of(key: Key) -> str:
    return SEPARATOR.join(key)


def garbage_rows(judgement: Judgement) -> list[Row]:
    """What may go, in the order in which it would, then what cannot be proved."""
    from vmlab_tui.lab.reach import Fate

    found = [
        _row(judgement.world.things[key], "goes", "")
        for key in judgement.order
        if judgement.world.things[key].rule != "trash"
    ]
    found += [
        _row(judgement.world.things[key], "unprovable", "warn")
        for key, verdict in judgement.verdicts.items()
        if verdict.fate is Fate.UNPROVABLE
    ]
    return found


def _row(thing: Thing, state: str, tone: str) -> Row:
    from vmlab_tui.lab.proof import title
    from vmlab_tui.lab.reach import Action

    frees = {Action.STOP: "stop", Action.FREE: "-"}.get(thing.action) or size(thing.frees)
    return Row(
        key_of(thing.key),
        (
            Cell(title(thing), tone),
            Cell(thing.rule, "dim"),
            Cell(frees),
            Cell(old(thing)),
            Cell(state, tone),
        ),
        search=(("", thing.name), ("class", thing.rule), ("state", state), ("kind", thing.key[0])),
    )


def trash_rows(entries: Iterable[Entry]) -> list[Row]:
    """What lies in the trash, newest first."""
    from vmlab_tui.lab.proof import KINDS

    return [
        Row(
            key_of(("trash", entry.id)),
            (
                Cell(f"{KINDS.get(entry.key[0], entry.key[0])} {clean_line(entry.name, 80)}", "dim"),
                Cell("stopped" if entry.stopped else "", "dim"),
                Cell(size(entry.size), "dim"),
                Cell(age(entry.when), "dim"),
                Cell("in trash", "dim"),
            ),
            search=(("", entry.name), ("state", "trash"), ("kind", entry.key[0])),
        )
        for entry in sorted(entries, key=lambda one: one.id, reverse=True)
    ]


def details(judgement: Judgement, key: Key) -> list[tuple[str, str]]:
    """(label, text) lines: the whole proof, and what would be done."""
    from vmlab_tui.lab.proof import explain, operations
    from vmlab_tui.lab.reach import Fate

    if key not in judgement.world.things:
        return [("", "it is not there any more")]
    done: list[tuple[str, str]] = []
    if judgement.verdicts[key].fate is Fate.GARBAGE:
        for number, one in enumerate(operations(judgement.world.things[key])):
            done.append(("will do" if not number else "", clean_line(one, 300)))
    lines: list[tuple[str, str]] = []
    head = "proof"
    for line in explain(judgement, key)[1:]:
        if line.startswith("  "):
            lines.append((head, line.strip()))
            head = ""
        else:
            lines += done  # after why it may go, before what that rests upon
            done = []
            head = _SHORT.get(line, line)
    return lines + done


_SHORT = {
    "what it is made of": "files",
    "what keeps it": "kept by",
    "what names it": "named by",
    "what it needs, which stays as long as it does": "needs",
    "searched": "searched",
    "could not be searched": "not seen",
}


def entry_details(entry: Entry) -> list[tuple[str, str]]:
    """(label, text) lines about something in the trash."""
    lines = [
        ("why", entry.why),
        ("moved", f"{age(entry.when)} ago by {entry.by}"),
        ("frees", f"{size(entry.size)} once it is emptied"),
    ]
    if entry.domain:
        power = "off, its memory saved" if entry.domain.saved else entry.domain.power
        lines.append(("was", f"{power}; {len(entry.domain.snapshots)} snapshots"))
    lines += [("from" if not number else "", move.src) for number, move in enumerate(entry.moves)]
    lines.append(("entry", entry.id))
    return [(label, clean_line(text, 400)) for label, text in lines]


def total(judgement: Judgement, entries: Iterable[Entry], marked: Collection[str] = ()) -> str:
    """What would come back, in one line: of what is marked, and of all. ``marked``: keys of rows."""
    from vmlab_tui.lab.cleanup import frees_of
    from vmlab_tui.lab.reach import Fate

    things = [judgement.world.things[key] for key in judgement.order]
    going = [thing.key for thing in things if thing.rule != "trash"]
    held = list(entries)
    unknown = sum(verdict.fate is Fate.UNPROVABLE for verdict in judgement.verdicts.values())
    told = [
        _marked(judgement, going, held, marked) if marked else "",
        f"{len(going)} may go and free {size(frees_of(judgement.world, going))}" if going else "",
        f"{unknown} cannot be proved" if unknown else "",
        f"the trash holds {size(sum(entry.size for entry in held))}" if any(one.size for one in held) else "",
    ]
    return "; ".join(filter(None, told))


def _marked(judgement: Judgement, going: list[Key], held: list[Entry], marked: Collection[str]) -> str:
    """``3 marked: 2 go and free 1.2G, 1 in the trash holds 300M``: what the next key would do with them."""
    from vmlab_tui.lab.cleanup import make_plan

    plan = make_plan(judgement, [key for key in going if key_of(key) in marked])
    trashed = [entry.size for entry in held if key_of(("trash", entry.id)) in marked]
    count = len(plan.items)
    parts = [
        f"{count} go{'es' if count == 1 else ''} and free{'s' if count == 1 else ''} {size(plan.frees)}"
        if count
        else "",
        f"{len(plan.skipped)} stay{'s' if len(plan.skipped) == 1 else ''}" if plan.skipped else "",
        f"{len(trashed)} in the trash hold{'s' if len(trashed) == 1 else ''} {size(sum(trashed))}"
        if trashed
        else "",
    ]
    return f"{len(marked)} marked: {', '.join(filter(None, parts)) or 'nothing of it goes'}"
