"""A host of libvirt's test driver with a VM of ours, foreign ones and shapes that cannot travel in time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.runs.samples import UUID, plan
from vmlab_tui.journal.log import Journal
from vmlab_tui.lab.context import Lab
from vmlab_tui.lab.leases import Lease
from vmlab_tui.verbs.registry import by_id
from vmlab_tui.verbs.verb import Args, Context

RUN = plan().run_id
FOREIGN = "11111111-2222-3333-4444-555555555555"
DARK, RAW, UEFI = (f"{number}{FOREIGN[1:]}" for number in (2, 3, 4))
VMS = {"web": FOREIGN, "dark": DARK}
TRAVEL = {"dark": DARK, "raw": RAW, "uefi": UEFI}
_DISK = """<devices><disk type='file' device='disk'><driver name='qemu' type='{form}'/>
<source file='/nowhere/{form}'/><target dev='vda'/></disk></devices>"""
_TEST = "xmlns:test='http://libvirt.org/schemas/domain/test/1.0'"


def domain(name: str, uuid: str, *, disk: str = "", head: str = "", loader: str = "") -> str:
    devices = _DISK.format(form=disk) if disk else ""
    return f"""<domain type='test' {_TEST}><name>{name}</name><uuid>{uuid}</uuid><memory>8192</memory>
    <os><type>hvm</type>{loader}</os>{devices}{head}</domain>"""


def node(folder: Path) -> Path:
    """What the test driver holds at every connection: our VM with two snapshots, and foreign ones."""
    taken = int(time.time()) - 3600
    ours = domain("sample-7f3a", UUID, disk="qcow2")
    snaps = ""
    for name, parent, at in (("one", "", taken), ("two", "<parent><name>one</name></parent>", taken + 60)):
        (folder / f"{name}.xml").write_text(
            f"<domainsnapshot><name>{name}</name><description>\u202ered text</description>"
            f"<state>running</state>{parent}<creationTime>{at}</creationTime>"
            f"<memory snapshot='internal'/><disks><disk name='vda' snapshot='internal'/></disks>"
            f"{ours}<active>{int(name == 'two')}</active></domainsnapshot>"
        )
        snaps += f"<test:domainsnapshot file='{folder / name}.xml'/>"
    loader = "<loader readonly='yes' type='pflash'>/x.fd</loader>"
    off = "<test:runstate>5</test:runstate>"
    path = folder / "node.xml"
    path.write_text(
        "<node>"
        + domain("sample-7f3a", UUID, disk="qcow2", head=snaps)
        + domain("web", FOREIGN, disk="qcow2")
        + domain("dark", DARK, head=off)
        + domain("raw", RAW, disk="raw")
        + domain("uefi", UEFI, disk="qcow2", loader=loader)
        + "</node>"
    )
    return path


def lease(name: str) -> Lease:
    return Lease(uuid=UUID, name=name, run_id=RUN, profile="sample", image="tiny", owner="me", created="")


@dataclass
class Person:
    """A front whose person says yes, or is not there."""

    interactive: bool = True
    said: list[str] = field(default_factory=list)
    on_terminal: bool = False
    colour: bool = False

    def say(self, line: str) -> None:
        self.said.append(line)

    def status(self, line: str) -> None:
        pass

    def write(self, text: str) -> None:
        self.said.append(text)

    async def confirm(self, question: str, loses: Sequence[str] = ()) -> bool:
        return self.interactive


def marked(lab: Lab) -> None:
    """Our VM's domain carries our mark."""
    path = Path(lab.uri.removeprefix("test://"))
    end = f"<uuid>{UUID}</uuid>"
    mark = f"<m:mark xmlns:m='urn:vmlab:mark:1' version='0' run='{RUN}' store='{lab.store.root}'/>"
    path.write_text(path.read_text().replace(end, f"{end}<metadata>{mark}</metadata>"))


def end_run(lab: Lab) -> None:
    with Journal.append(lab.store.run(RUN) / "journal.jsonl") as journal:
        journal.write("ended", state="failed", exit=1, disposition="kept", seconds=1.0, until=None)


def context(lab: Lab, *, interactive: bool = True, data: bool = True) -> tuple[Context, Person]:
    person = Person(interactive)
    return Context(person, lab.uri, lab.store.root, wants_data=data), person  # type: ignore[arg-type]


async def do(lab: Lab, ident: str, *, interactive: bool = True, data: bool = True, **values: Any) -> Any:
    ctx, _ = context(lab, interactive=interactive, data=data)
    return await by_id(ident).run(ctx, Args(values))
