"""A host: everything vmlab does through one libvirt URI, with a deadline on every call."""

from __future__ import annotations

import asyncio
import json
from typing import Any, TypeVar

import libvirt
import libvirt_qemu
from pydantic import JsonValue

from vmlab_tui.base.deadlines import Deadline
from vmlab_tui.base.errors import LabError, UsageError
from vmlab_tui.base.picture import Picture
from vmlab_tui.base.text import clean_line
from vmlab_tui.hosts import domains, iouring, rewind, screen
from vmlab_tui.hosts.address import find_address
from vmlab_tui.hosts.connection import Connection, shown
from vmlab_tui.hosts.failures import AgentAway, NotFound
from vmlab_tui.hosts.model import Domain, HostFacts, Power, Snapshot, Then, VmSpec
from vmlab_tui.hosts.starting import start_domain, start_qemu
from vmlab_tui.hosts.stream import ConsoleStream, open_stream
from vmlab_tui.hosts.vitals import Vitals, read_vitals
from vmlab_tui.hosts.vnc import new_password
from vmlab_tui.hosts.xml import domain_xml, legal, parse, parse_domain, snapshot_xml

T = TypeVar("T")
_OFF = (Power.OFF, Power.CRASHED)


def can_time_travel(firmware: str, disk_format: str, libvirt_version: tuple[int, int, int]) -> str:
    """Whether VMs of that kind can have snapshots with memory: empty if so, else the reason.

    ``firmware``: bios or uefi. ``disk_format``: the format of the VM's own disk.
    """
    if disk_format != "qcow2":
        return f"a {disk_format} disk cannot hold snapshots (qcow2 can)"
    if firmware == "uefi" and libvirt_version < (10, 10, 0):
        here = ".".join(map(str, libvirt_version))
        return f"libvirt {here} cannot snapshot UEFI guests (10.10 can; BIOS guests work)"
    return ""


class Host(Connection):
    """Everything vmlab does with the VMs of one libvirt URI.

    Every method is a coroutine with a ``timeout`` in seconds; all raise LabError: NotFound for what is
    not there, Busy when another client holds it, Unreachable without libvirt, DeadlineError when late.
    VMs are named by uuid. A call that is late may still take effect.
    """

    def __init__(self, uri: str, *, readonly: bool = False) -> None:
        super().__init__(uri, readonly=readonly)
        self._facts: HostFacts | None = None
        self._no_io_uring: str | None = None

    # -- looking ---------------------------------------------------------------------------------

    async def facts(self, *, timeout: float = 15) -> HostFacts:
        """Versions, the QEMU user, CPUs, memory now."""
        self._facts = await self._call(self.uri, lambda conn: domains.read_facts(conn, self.uri), timeout)
        return self._facts

    async def domains(self, snapshots: bool = False, *, timeout: float = 30) -> list[Domain]:
        """All domains of the host, whoever made them."""
        return await self._call(
            "list domains", lambda conn: domains.read_domains(conn, snapshots=snapshots), timeout
        )

    async def domain(self, uuid: str, *, snapshots: bool = False, timeout: float = 15) -> Domain | None:
        """One domain, or None."""
        try:
            return await self._on(
                "look at", uuid, lambda domain: domains.read_domain(domain, snapshots=snapshots), timeout
            )
        except NotFound:
            return None

    async def domain_xml(
        self, uuid: str, *, inactive: bool = False, secrets: bool = False, timeout: float = 15
    ) -> str:
        """Its XML as libvirt has it; ``secrets``: passwords too, not over a read-only connection."""
        flags = libvirt.VIR_DOMAIN_XML_INACTIVE if inactive else 0
        flags |= libvirt.VIR_DOMAIN_XML_SECURE if secrets else 0
        return await self._on("look at", uuid, lambda domain: str(domain.XMLDesc(flags)), timeout)

    async def generation(self, uuid: str, *, timeout: float = 15) -> str:
        """Its ``<genid>``, which libvirt changes at each revert; empty where it has none. Raises NotFound."""
        return parse(await self.domain_xml(uuid, timeout=timeout)).findtext("genid") or ""

    async def power(self, uuid: str, *, timeout: float = 15) -> Power:
        """Its state now. Raises NotFound."""
        return await self._on("look at", uuid, domains.read_power, timeout)

    async def vitals(self, uuid: str, *, timeout: float = 15) -> Vitals:
        """Its state now, why it is in it, and what its QEMU has computed. Raises NotFound."""
        return await self._on("look at", uuid, read_vitals, timeout)

    async def screenshot(self, uuid: str, *, timeout: float = 10) -> Picture:
        """What its screen shows; it may be paused. Not over a read-only connection.

        Raises NoScreen where there is none, and while libvirt changes the VM it is late.
        """
        return await self._on("take a picture of the screen of", uuid, screen.take, timeout, slow=True)

    async def why_no_io_uring(self) -> str:
        """Why the disks of new VMs do not get it, see `iouring`; empty where they do."""
        if self._no_io_uring is None:
            facts = self._facts or await self.facts()
            self._no_io_uring = await iouring.why_not(facts.libvirt) if self.local else "a remote host"
        return self._no_io_uring

    # -- life of a VM ----------------------------------------------------------------------------

    async def _xml(self, spec: VmSpec) -> str:
        facts = self._facts or await self.facts()
        io_uring = not await self.why_no_io_uring()
        return domain_xml(spec, dac=facts.dac, io_uring=io_uring, password=new_password())

    async def define(self, spec: VmSpec, *, timeout: float = 120) -> None:
        """Define the VM, or define it anew (same uuid and name).

        It waits for libvirt to examine QEMU, once after either changed; at every call (17 s) where
        /dev/kvm is closed to the QEMU user, because libvirt probes as root and then doubts the result.
        """
        await self.define_xml(await self._xml(spec), spec.name, timeout=timeout)

    async def define_xml(self, xml: str, name: str, *, timeout: float = 120) -> None:
        """Define a domain from XML made by this room."""

        def work(connection: Any) -> None:
            with self._virsh("define", f"{name}.xml"):
                connection.defineXML(xml)

        await self._call(f"define {name}", work, timeout)

    async def start(self, uuid: str, *, timeout: float = 120) -> None:
        """Start it; nothing happens if it runs already."""

        def work(domain: Any) -> None:
            if not domain.isActive():
                start_domain(domain, self._virsh)

        await self._on("start", uuid, work, timeout, slow=True)

    async def start_transient(self, spec: VmSpec, *, timeout: float = 120) -> None:
        """Start a VM that has no stored definition and ends when this process does, however that ends.

        libvirt ties it to a connection that is kept open until close().
        """
        xml = await self._xml(spec)

        def work(connection: Any) -> None:
            with self._virsh("create", "--autodestroy", f"{spec.name}.xml"):
                start_qemu(lambda: connection.createXML(xml, libvirt.VIR_DOMAIN_START_AUTODESTROY))

        await self._call(f"start {spec.name}", work, timeout, slow=True, links=self._bound)

    async def destroy(self, uuid: str, *, timeout: float = 60) -> bool:
        """Pull the plug. False if it was off or does not exist."""

        def work(domain: Any) -> bool:
            if not domain.isActive():
                return False
            try:
                with self._virsh("destroy", shown(domain)):
                    domain.destroy()
            except libvirt.libvirtError:
                if not domain.isActive():  # it ended by itself meanwhile
                    return False
                raise
            return True

        try:
            return await self._on("destroy", uuid, work, timeout)
        except NotFound:
            return False

    async def shutdown(self, uuid: str, *, timeout: float = 15) -> None:
        """Ask the guest to power off (ACPI); does not wait for it."""

        def work(domain: Any) -> None:
            with self._virsh("shutdown", shown(domain)):
                domain.shutdown()

        await self._on("shut down", uuid, work, timeout)

    async def reboot(self, uuid: str, *, timeout: float = 15) -> None:
        """Ask the guest to reboot; does not wait for it."""

        def work(domain: Any) -> None:
            with self._virsh("reboot", shown(domain)):
                domain.reboot()

        await self._on("reboot", uuid, work, timeout)

    async def reset(self, uuid: str, *, timeout: float = 15) -> None:
        """Press the reset button."""

        def work(domain: Any) -> None:
            with self._virsh("reset", shown(domain)):
                domain.reset()

        await self._on("reset", uuid, work, timeout)

    async def suspend(self, uuid: str, *, timeout: float = 30) -> None:
        """Stop its CPUs; nothing happens if they are stopped."""

        def work(domain: Any) -> None:
            if domains.read_power(domain) is not Power.PAUSED:
                with self._virsh("suspend", shown(domain)):
                    domain.suspend()

        await self._on("pause", uuid, work, timeout, slow=True)

    async def resume(self, uuid: str, *, timeout: float = 30) -> None:
        """Let its CPUs go on; nothing happens if they do."""

        def work(domain: Any) -> None:
            if domains.read_power(domain) is not Power.ON:
                with self._virsh("resume", shown(domain)):
                    domain.resume()

        await self._on("continue", uuid, work, timeout, slow=True)

    async def undefine(self, uuid: str, *, timeout: float = 30) -> bool:
        """Remove the definition, saved state and snapshot metadata; its files stay, nvram too.

        False if it does not exist. A running VM goes on until it stops.
        """

        def work(domain: Any) -> bool:
            flags = libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
            options = ["--managed-save", "--snapshots-metadata"]
            if parse_domain(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)).firmware == "uefi":
                flags |= libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM
                options.append("--keep-nvram")
            with self._virsh("undefine", shown(domain), *options):
                domain.undefineFlags(flags)
            return True

        try:
            return await self._on("undefine", uuid, work, timeout)
        except NotFound:
            return False

    # -- snapshots -------------------------------------------------------------------------------

    async def snapshots(self, uuid: str, *, timeout: float = 15) -> list[Snapshot]:
        """Its snapshots, oldest first."""
        return list(await self._on("list snapshots of", uuid, domains.read_snapshots, timeout))

    async def snapshot_xml(self, uuid: str, name: str, *, timeout: float = 15) -> str:
        """The XML of one snapshot as libvirt has it."""
        return await self._on(
            f"look at snapshot {clean_line(name, 80)} of",
            uuid,
            lambda domain: str(domain.snapshotLookupByName(name).getXMLDesc()),
            timeout,
        )

    async def can_time_travel(self, firmware: str, disk_format: str, *, timeout: float = 15) -> str:
        """Empty if such VMs can have snapshots with memory on this host, else the reason in one line."""
        number = await self._call(self.uri, lambda conn: int(conn.getLibVersion()), timeout)
        return can_time_travel(firmware, disk_format, domains.version(number))

    async def create_snapshot(
        self, uuid: str, name: str, description: str = "", *, timeout: float = 300
    ) -> None:
        """An internal snapshot, with memory if the VM runs (it stands still meanwhile).

        Raises UsageError if it has one of that name.
        """
        xml = snapshot_xml(name, description)

        def work(domain: Any) -> None:
            if name in domain.snapshotListNames():
                raise UsageError(
                    f"{clean_line(domain.name(), 80)} has a snapshot '{clean_line(name, 80)}' already",
                    hint="choose another name, or delete that one first",
                )
            about = ["--description", description] if description else []
            with self._virsh("snapshot-create-as", shown(domain), name, *about):
                domain.snapshotCreateXML(xml)

        await self._on(f"snapshot {clean_line(name, 80)} of", uuid, work, timeout, slow=True)

    async def redefine_snapshot(
        self, uuid: str, xml: str, *, current: bool = True, timeout: float = 60
    ) -> None:
        """Tell libvirt of a snapshot that is in the disk already (``xml`` made by this room)."""
        flags = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE
        if current:
            flags |= libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_CURRENT

        def work(domain: Any) -> None:
            options = ["--redefine", *(["--current"] if current else [])]
            with self._virsh("snapshot-create", shown(domain), "snapshot.xml", *options):
                domain.snapshotCreateXML(xml, flags)

        await self._on("snapshot of", uuid, work, timeout, slow=True)

    async def describe_snapshot(self, uuid: str, name: str, text: str, *, timeout: float = 60) -> None:
        """Give a snapshot another description; all else of it stays. Raises NotFound."""
        told = legal(text)[:1000]
        await self._on(
            f"describe snapshot {clean_line(name, 80)} of",
            uuid,
            lambda domain: rewind.describe(domain, name, told, command=self._virsh),
            timeout,
            slow=True,
        )

    async def why_not_back(self, uuid: str, name: str, *, timeout: float = 15) -> str:
        """Why going back to a snapshot cannot be or would do harm, in one line; empty if nothing is known.

        External snapshots below libvirt 10, another disk file than then, memory saved by managedsave.
        """
        return await self._on(
            f"look at snapshot {clean_line(name, 80)} of",
            uuid,
            lambda domain: rewind.why_not_back(domain, name),
            timeout,
        )

    async def why_not_delete(self, uuid: str, name: str, *, timeout: float = 15) -> str:
        """The same for deleting it: external snapshots below libvirt 10."""
        return await self._on(
            f"look at snapshot {clean_line(name, 80)} of",
            uuid,
            lambda domain: rewind.why_not_delete(domain, name),
            timeout,
        )

    async def revert(
        self, uuid: str, name: str, *, then: Then | None = None, force: bool = False, timeout: float = 300
    ) -> bool:
        """Go back to a snapshot; the present is lost. Whether the VM's QEMU went on (``in place``).

        ``then``: how it shall be afterwards; None: as it was when the snapshot was taken. Where a VM runs
        under KVM and its definition has not changed since, its own QEMU loads the snapshot; else libvirt
        starts another one, and definition and metadata go back too. ``force`` does that in any case. After
        a failed load the VM is off, its disk the snapshot's.
        """
        return await self._on(
            f"revert to {clean_line(name, 80)} of",
            uuid,
            lambda domain: rewind.go_back(domain, name, then, force=force, command=self._virsh),
            timeout,
            slow=True,
        )

    async def delete_snapshot(self, uuid: str, name: str, *, timeout: float = 300) -> bool:
        """Delete one snapshot, its data too; its children stay. False if there is none of that name."""

        def work(domain: Any) -> None:
            found = domain.snapshotLookupByName(name)
            with self._virsh("snapshot-delete", shown(domain), name):
                found.delete()

        try:
            await self._on(f"delete snapshot {clean_line(name, 80)} of", uuid, work, timeout, slow=True)
        except NotFound:
            return False
        return True

    # -- into the guest --------------------------------------------------------------------------

    async def agent(
        self, uuid: str, command: str, *, timeout: float = 10, patience: float = 0, **arguments: JsonValue
    ) -> JsonValue:
        """Run a QEMU guest agent command and return its answer, which is the guest's word: untrusted.

        The agent must be there within ``patience`` seconds (see `agentexec`), and answer within ``timeout``
        ones. Raises LabError without an agent, AgentAway where libvirt knows of none.
        """
        request: dict[str, Any] = {"execute": command}
        if arguments:
            request["arguments"] = {key.replace("_", "-"): value for key, value in arguments.items()}

        def work(domain: Any) -> str:
            return str(libvirt_qemu.qemuAgentCommand(domain, json.dumps(request), max(1, int(timeout)), 0))

        grace = Deadline(patience)
        while True:
            try:
                answer = await self._on(f"agent {command} of", uuid, work, timeout + 2)
                break
            except AgentAway:
                if grace.expired:
                    raise
            await asyncio.sleep(0.02)
        try:
            reply: JsonValue = json.loads(answer)["return"]
        except (ValueError, KeyError, TypeError) as error:
            raise LabError(f"agent {command} of {uuid}: the answer makes no sense") from error
        return reply

    async def address(self, uuid: str, *, timeout: float = 60) -> str:
        """The VM's IP address on a libvirt network, as soon as DHCP, ARP or the agent knows it.

        Raises DeadlineError after ``timeout``. A VM with user networking has none that we could reach.
        """
        deadline = Deadline(timeout)
        while True:
            found = await self._on("address of", uuid, find_address, max(1.0, deadline.part(15)))
            if found:
                return found
            deadline.check(f"address of {uuid}")
            await asyncio.sleep(deadline.part(0.5))

    async def open_console(self, uuid: str, *, force: bool = False, timeout: float = 15) -> ConsoleStream:
        """The serial console as a byte stream both ways; libvirt admits one client at a time.

        Raises Busy if there is one; ``force`` takes it over.
        """
        return await open_stream(self.uri, uuid, force=force, timeout=timeout)
