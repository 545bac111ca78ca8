"""Is a package installed."""

from __future__ import annotations

import shlex

from pydantic import Field

from vmlab_tui.checks.fields import Label, Package
from vmlab_tui.checks.params import Params as Base
from vmlab_tui.checks.result import Verdict
from vmlab_tui.checks.target import Target


class Params(Base):
    """A package of the guest's own package manager (dpkg, rpm or apk)."""

    name: Package = Field(description="its name")
    version: Label | None = Field(None, description="its version, or how its version begins")

    def label(self) -> str:
        return f"package {self.name}" + (f" {self.version}" if self.version else "")


# prints "installed VERSION" or nothing; status 3: no package manager we know. Busybox has an rpm that
# keeps no database.
_ASK = """
if command -v dpkg-query >/dev/null 2>&1; then
  dpkg-query -W -f '${db:Status-Status} ${Version}\\n' -- %(name)s
elif rpm --version 2>/dev/null | grep -q '^RPM version'; then
  rpm -q --qf 'installed %%{VERSION}-%%{RELEASE}\\n' -- %(name)s
elif command -v apk >/dev/null 2>&1; then
  apk info -e %(name)s >/dev/null && echo "installed $(apk list -I %(name)s 2>/dev/null | head -n 1)"
else exit 3; fi
"""


async def run(params: Params, target: Target, timeout: float) -> Verdict:
    """Ask the package manager's database."""
    asked = await target.execute(_ASK % {"name": shlex.quote(params.name)}, timeout=timeout)
    if asked.status == 3:
        return Verdict("error", "the guest has no package manager that is known (dpkg, rpm, apk)")
    for line in asked.out.decode(errors="replace").splitlines():
        state, _, version = line.strip().partition(" ")
        if state != "installed":
            continue
        if params.version and not version.startswith(params.version):
            return Verdict("failed", f"its version is {version}, not {params.version}")
        return Verdict("passed", version)
    text = (asked.out + asked.err).decode(errors="replace")
    return Verdict("failed", "it is not installed", text)
