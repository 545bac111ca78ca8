"""Does something in the guest listen on a port."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vmlab_tui.checks.fields import Port
from vmlab_tui.checks.params import Params as Base
from vmlab_tui.checks.result import Verdict
from vmlab_tui.checks.target import Target


class Params(Base):
    """A port of the guest, on any of its addresses."""

    port: Port = Field(description="the port's number")
    protocol: Literal["tcp", "udp"] = Field("tcp", description="tcp or udp")

    def label(self) -> str:
        return f"port {self.port}" + ("" if self.protocol == "tcp" else f"/{self.protocol}")


async def run(params: Params, target: Target, timeout: float) -> Verdict:
    """Read the kernel's own socket tables: no tool is needed in the guest, and no connection is made."""
    tables = " ".join(f"/proc/net/{params.protocol}{version}" for version in ("", "6"))
    read = await target.execute(
        f"cat {tables} 2>/dev/null; test -r /proc/net/{params.protocol}", timeout=timeout
    )
    if read.status:
        return Verdict("error", f"/proc/net/{params.protocol} cannot be read")
    open_ports = listening(read.out.decode(errors="replace"), params.protocol)
    if params.port in open_ports:
        return Verdict("passed", "listening")
    seen = ", ".join(map(str, sorted(open_ports)[:30])) or "none"
    return Verdict("failed", "nothing listens", f"open {params.protocol} ports: {seen}")


def listening(table: str, protocol: str) -> set[int]:
    """The ports that ``table``, the text of /proc/net/tcp or the like, shows as open."""
    # 0A: listening; an unconnected UDP socket is 07
    wanted, found = ("0A" if protocol == "tcp" else "07"), set()
    for line in table.splitlines():
        words = line.split()
        if len(words) > 3 and words[3] == wanted:
            try:
                found.add(int(words[1].rpartition(":")[2], 16))
            except ValueError:
                continue
    return found
