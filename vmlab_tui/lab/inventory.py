"""What exists on a host and in the store, joined into one immutable value."""

from __future__ import annotations

from dataclasses import dataclass

from vmlab_tui.hosts.host import Host
from vmlab_tui.hosts.model import Domain
from vmlab_tui.lab.context import Lab
from vmlab_tui.lab.leases import Lease, all_leases


@dataclass(frozen=True)
class VmEntry:
    """A VM: a domain, a lease, or both. No lease: foreign. No domain: only its files are left."""

    uuid: str
    name: str
    domain: Domain | None
    lease: Lease | None

    @property
    def power(self) -> str:
        return self.domain.power.value if self.domain else "no domain"

    @property
    def address(self) -> str:
        """``lab@127.0.0.1:22001`` where a forward is known, else empty."""
        port = self.lease.port("ssh") if self.lease else None
        return f"{self.lease.user}@127.0.0.1:{port}" if self.lease and port else ""


@dataclass(frozen=True)
class Inventory:
    """``problems``: what could not be read, by directory; whoever wants to delete must heed them."""

    vms: tuple[VmEntry, ...]
    problems: tuple[tuple[str, str], ...] = ()

    def find(self, ref: str) -> list[VmEntry]:
        """The VMs that ``ref`` names: an exact uuid or name."""
        return [vm for vm in self.vms if ref in (vm.uuid, vm.name)]


async def take_inventory(lab: Lab, host: Host, *, snapshots: bool = False) -> Inventory:
    """Ask libvirt and read the leases; own VMs first, then foreign ones, each by name."""
    leases, problems = all_leases(lab.store)
    domains = {domain.uuid: domain for domain in await host.domains(snapshots=snapshots)}
    entries = []
    for uuid in leases.keys() | domains.keys():
        lease, domain = leases.get(uuid), domains.get(uuid)
        name = domain.name if domain else lease.name if lease else uuid
        entries.append(VmEntry(uuid, name, domain, lease))
    entries.sort(key=lambda vm: (vm.lease is None, vm.name))
    return Inventory(tuple(entries), tuple(problems.items()))
