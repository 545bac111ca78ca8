"""Where SSH answers on a VM of ours."""

from __future__ import annotations

from vmlab_tui.base.errors import LabError
from vmlab_tui.guests.endpoint import Endpoint
from vmlab_tui.guests.keys import ensure_user_key
from vmlab_tui.lab.context import Lab
from vmlab_tui.lab.leases import read_lease
from vmlab_tui.lab.vmdir import vm_dir


def endpoint_of(lab: Lab, uuid: str) -> Endpoint:
    """Where SSH answers on a VM of ours with a forward. Raises LabError when it has none."""
    folder = vm_dir(lab.store, uuid)
    lease = read_lease(folder.path)
    port = lease.port("ssh")
    if port is None or not folder.known_host.exists():
        raise LabError(
            f"VM {lease.name} has no SSH forward and no pinned host key yet",
            hint="wait until its run has booted it",
        )
    return Endpoint(
        host="127.0.0.1",
        port=port,
        user=lease.user,
        key=ensure_user_key(lab.store.keys).private,
        host_key=folder.known_host.read_text().strip(),
        vm=lease.name,
    )
