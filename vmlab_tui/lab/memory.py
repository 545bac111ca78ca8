"""What one look at a lab need not read again in the next."""

from __future__ import annotations

import os
from pathlib import Path

from vmlab_tui.base.signs import Remembered
from vmlab_tui.lab.leases import Lease
from vmlab_tui.lab.leftovers import Stored
from vmlab_tui.lab.naming import Headers
from vmlab_tui.lab.trash import FILE, Entry, read_entry


class Memory:
    """What was read of files that have not changed."""

    def __init__(self) -> None:
        self.headers = Headers()
        self.leases: Remembered[tuple[Lease | None, str]] = Remembered()
        self.stored: Remembered[Stored] = Remembered()
        self._entries: Remembered[Entry] = Remembered()
        self._devices: dict[str, int] = {}

    def begin(self) -> None:
        for one in (self.headers, self.leases, self.stored, self._entries):
            one.begin()

    def same_device(self, folder: str) -> bool:
        """Whether it lies on the file system of the first look: of a share that goes, the place stays."""
        try:
            device = os.stat(folder).st_dev  # noqa: PTH116
        except OSError:
            return folder not in self._devices
        return self._devices.setdefault(folder, device) == device

    def entry(self, folder: Path) -> Entry:
        """Raises LabError."""
        try:
            facts = (folder / FILE).stat()
        except OSError:
            return read_entry(folder)
        return self._entries.get(str(folder), facts, lambda: read_entry(folder))
