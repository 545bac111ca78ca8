"""Every changing call is noted as the virsh command that does the same; looking is not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from vmlab_tui.base.commands import Record, subscribe
from vmlab_tui.base.errors import LabError
from vmlab_tui.hosts.host import Host

UUID = "6695eb01-f6a4-8304-79aa-97f2502e193f"
DOMAIN = f"""<domain type='test'><name>%s</name><uuid>{UUID}</uuid><memory>8192</memory>
<os><type>hvm</type></os></domain>"""


@pytest.fixture
def seen() -> Iterator[list[Record]]:
    found: list[Record] = []
    stop = subscribe(found.append)
    yield found
    stop()


@pytest.fixture
async def fake(tmp_path: Path) -> AsyncIterator[Host]:
    """libvirt's own test driver with nothing in it."""
    path = tmp_path / "node.xml"
    path.write_text("<node></node>")
    async with Host.open(f"test://{path}") as host:
        yield host


async def test_a_life_in_virsh_commands(fake: Host, seen: list[Record]) -> None:
    uri = f"virsh -c {fake.uri}"
    await fake.define_xml(DOMAIN % "web", "web")
    await fake.start(UUID)
    await fake.start(UUID)  # runs already: nothing is done
    await fake.domains(snapshots=True)
    await fake.suspend(UUID)
    await fake.resume(UUID)
    await fake.create_snapshot(UUID, "one", "it's here")
    await fake.create_snapshot(UUID, "two")
    await fake.revert(UUID, "one", force=True)
    await fake.delete_snapshot(UUID, "two")
    assert not await fake.delete_snapshot(UUID, "two")
    await fake.reboot(UUID)
    assert await fake.destroy(UUID)
    assert not await fake.destroy(UUID)
    await fake.undefine(UUID)
    assert [one.command for one in seen] == [
        f"{uri} {words}"
        for words in (
            "define web.xml",
            "start web",
            "suspend web",
            "resume web",
            """snapshot-create-as web one --description 'it'"'"'s here'""",
            "snapshot-create-as web two",
            "snapshot-revert web one --force",
            "snapshot-delete web two",
            "reboot web",
            "destroy web",
            "undefine web --managed-save --snapshots-metadata",
        )
    ]
    assert {one.ok for one in seen} == {True}


async def test_what_failed_is_marked_and_what_was_not_tried_is_not_there(
    fake: Host, seen: list[Record]
) -> None:
    await fake.define_xml(DOMAIN % "web", "web")
    with pytest.raises(LabError):
        await fake.shutdown(UUID)
    with pytest.raises(LabError):
        await fake.revert(UUID, "none")
    assert [(one.command.split()[3], one.outcome) for one in seen] == [
        ("define", "ok"),
        ("shutdown", "failed"),
    ]


@pytest.mark.parametrize("name", ["-rf", "a\x7fb", "\u202egpj.exe"])
async def test_a_name_that_cannot_be_typed_is_its_uuid(fake: Host, seen: list[Record], name: str) -> None:
    await fake.define_xml(DOMAIN % name, "web")
    await fake.start(UUID)
    assert seen[-1].command == f"virsh -c {fake.uri} start {UUID}"
