"""The IP address of a VM on a libvirt network: whichever source knows it first."""

from __future__ import annotations

import contextlib
import ipaddress
from typing import Any

import libvirt

_SOURCES = (
    libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE,
    libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP,
    libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT,
)


def find_address(domain: Any) -> str | None:
    """DHCP lease, then ARP table, then the guest's own word; each may fail. IPv4 before IPv6. Blocks."""
    for source in _SOURCES:
        with contextlib.suppress(libvirt.libvirtError):
            usable = []
            for name, interface in (domain.interfaceAddresses(source) or {}).items():
                for entry in interface.get("addrs") or ():
                    with contextlib.suppress(ValueError):  # the agent may say anything
                        address = ipaddress.ip_address(entry["addr"])
                        if name != "lo" and not (address.is_loopback or address.is_link_local):
                            usable.append(address)
            if usable:
                return str(min(usable, key=lambda one: one.version))
    return None
