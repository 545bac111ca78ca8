"""Why a thing may go, or why not, in words: what claims it, what names it, what was searched."""

from __future__ import annotations

from vmlab_tui.base.text import clean_line
from vmlab_tui.lab.graph import Key
from vmlab_tui.lab.reach import Action, Fate, Judgement, Thing

KINDS = {
    "vm": "VM",
    "image": "image",
    "file": "former build",
    "left": "directory",
    "template": "template",
    "run": "run",
    "staging": "unfinished image",
    "diagnosis": "diagnosis",
    "trash": "in the trash",
    "disk": "disk",
    "ports": "ports",
    "socket": "socket of run",
    "console": "console socket of VM",
    "snapshot": "snapshot",
    "libvirt": "libvirt's file",
    "adopted": "adopted",
    "session": "VM of another session",
}


def title(thing: Thing) -> str:
    """``VM web-7f3a``, ``VM web-7f3a in the trash``, fit for a line."""
    return f"{bare_title(thing)} in the trash" if thing.trash and thing.was else bare_title(thing)


def bare_title(thing: Thing) -> str:
    """The same without where it is."""
    kind = thing.was or thing.key[0]
    return f"{KINDS.get(kind, kind)} {clean_line(thing.name, 80)}"


def reason(judgement: Judgement, key: Key) -> str:
    """One line: why it may go, or why it stays."""
    verdict = judgement.verdicts[key]
    thing = judgement.world.things[key]
    if verdict.fate is Fate.GARBAGE:
        return clean_line(f"{thing.why}; {_nobody(judgement, thing)}", 300)
    if verdict.path:
        user, how = verdict.path[0]
        name = title(judgement.world.things[user])
        far = f", and {verdict.why}" if verdict.why else ""
        return clean_line(f"{name} needs it: {how}{far}", 300)
    return clean_line(verdict.why, 300)


def _nobody(judgement: Judgement, thing: Thing) -> str:
    if thing.action is Action.STOP:
        return "it is stopped with its memory saved, and stays"
    if thing.action is Action.FREE:
        return "it holds no data"
    users = [edge for edge in judgement.world.used_by.get(thing.key, ()) if edge.user != thing.key]
    there = [judgement.world.things[edge.user] for edge in users if edge.user in judgement.world.things]
    if not there:
        return "nothing names it"
    names = ", ".join(dict.fromkeys(title(user) for user in there[:3]))
    return f"only {names}{' and others' if len(there) > 3 else ''} names it, and goes before it"


def explain(judgement: Judgement, key: Key) -> tuple[str, ...]:
    """All lines: the claim, who names it, the chain that keeps it, what was searched and what was not."""
    world, verdict = judgement.world, judgement.verdicts[key]
    thing = world.things[key]
    lines = [f"{title(thing)}: {verdict.fate.value}", f"  {reason(judgement, key)}"]
    lines += [f"  {detail}" for detail in thing.details]
    if thing.paths:
        lines.append("what it is made of")
        lines += [f"  {path}" for path in thing.paths[:12]]
        if len(thing.paths) > 12:
            lines.append(f"  and {len(thing.paths) - 12} more files")
    if verdict.path:
        lines.append("what keeps it")
        lines += [f"  {title(world.things[user])}: {how}" for user, how in verdict.path]
        lines.append(f"  {verdict.why}")
    named = [edge for edge in world.used_by.get(key, ()) if edge.user in world.things and edge.user != key]
    lines.append("what names it")
    lines += [f"  {title(world.things[edge.user])}: {edge.how}" for edge in named[:12]] or ["  nothing"]
    if len(named) > 12:
        lines.append(f"  and {len(named) - 12} more")
    needs = [edge for edge in world.uses.get(key, ()) if edge.used != key and edge.used in world.things]
    if needs:
        lines.append("what it needs, which stays as long as it does")
        lines += [f"  {title(world.things[edge.used])}: {edge.how}" for edge in needs[:8]]
    lines.append("searched")
    lines += [f"  {one}" for one in world.searched] or ["  nothing"]
    if world.blinds:
        lines.append("could not be searched")
        lines += [f"  {blind.what}: {blind.why}" for blind in world.blinds]
    return tuple(("  " if line.startswith("  ") else "") + clean_line(line.strip(), 400) for line in lines)


def operations(thing: Thing) -> tuple[str, ...]:
    """What exactly is done to it, in order."""
    name = clean_line(thing.name, 80)
    match thing.action:
        case Action.STOP:
            return (f"stop VM {name}, its memory saved (virsh managedsave)",)
        case Action.FREE:
            return (f"give up {title(thing)}: {', '.join(thing.details or thing.paths)}",)
        case Action.EMPTY:
            return (f"delete {name} from the trash for good",)
    steps = []
    if thing.key[0] == "vm":
        on = any(detail in _AWAKE for detail in thing.details)
        saved = "save the memory of, and " if on else ""
        steps.append(f"{saved}undefine VM {name}; its snapshots are noted")
    steps += [clean_line(f"unmount {point}", 300) for point in thing.mounts]
    steps += [clean_line(f"move {path} to the trash", 300) for path in thing.paths]
    return tuple(steps)


_AWAKE = ("domain: on", "domain: paused")
