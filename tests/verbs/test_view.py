"""`view` on the display of a real VM; a script of the test's own is the configured viewer."""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.hosts.conftest import bench
from tests.runs.command import vmlab
from tests.support.vnc import lets_in
from vmlab_tui.base.errors import LabError
from vmlab_tui.base.paths import Store
from vmlab_tui.base.picture import decode
from vmlab_tui.hosts.model import Display
from vmlab_tui.hosts.vnc import display_of
from vmlab_tui.verbs.view import Viewer, _far, _viewer

__all__ = ["bench"]
SCRIPT = """\
#!/bin/bash
place=${1#vnc://}
exec 3<>/dev/tcp/${place%:*}/${place#*:} && read -r -n 12 banner <&3
echo "$1 $banner $(ps -o tty= -p $$) ${#VNC_PASSWORD}" >>"$0.saw"
"""


@pytest.mark.guest
async def test_the_viewer_reaches_the_display(
    bench: Any, lab_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer = tmp_path / "viewer"
    viewer.write_text(SCRIPT)
    viewer.chmod(0o755)
    (tmp_path / "config.yaml").write_text(f"schema: 1\nviewer: [{viewer}]\n")
    monkeypatch.setenv("VMLAB_CONFIG", str(tmp_path))
    spec = bench.spec(bench.echo())
    await bench.host.define(spec)
    off = await vmlab(lab_store, "view", spec.name)
    assert off.status == 4
    assert f"vmlab start {spec.name}" in off.err
    dark = await vmlab(lab_store, "screenshot", spec.name)
    assert (dark.status, dark.err.splitlines()[0]) == (4, f"vmlab: VM {spec.name} is off")
    await bench.host.start(spec.uuid)
    told = (await vmlab(lab_store, "view", spec.name, "--json")).data
    uri = told["uri"]
    assert told["password"] is True
    asked = subprocess.run(told["password_command"], capture_output=True, text=True, check=True).stdout
    word = re.match(r"vnc://:(\w{8})@", asked)
    assert word
    assert lets_in(int(uri.rpartition(":")[2]), word[1])
    assert uri.startswith("vnc://127.0.0.1:59")
    shown = await vmlab(lab_store, "view", spec.uuid)
    first, second = shown.out.splitlines()
    assert first == f"{spec.name}: {uri}, by {viewer}"
    assert second.endswith(f"domdisplay --include-password {spec.uuid}")
    picture = tmp_path / "screen.png"
    saved = (await vmlab(lab_store, "screenshot", spec.name, picture, "--json")).data
    assert (saved["width"], saved["height"], saved["file"]) == (720, 400, str(picture))
    assert (decode(picture.read_bytes()).width, picture.stat().st_mode & 0o777) == (720, 0o600)
    saw = Path(f"{viewer}.saw")
    await bench.until(lambda: saw.exists() and saw.read_text(), 20)
    assert saw.read_text() == f"{uri} RFB 003.008 ? 8\n"
    viewer.write_text("#!/bin/sh\nexit 3\n")
    failed = await vmlab(lab_store, "view", spec.name)
    assert failed.status == 4
    assert f"{viewer} {uri}: exit status 3" in failed.err
    (tmp_path / "config.yaml").unlink()
    none = await vmlab(lab_store, "view", spec.name, DISPLAY="", WAYLAND_DISPLAY="")
    assert none.status == 0
    assert f"ssh -N -L {uri.rpartition(':')[2]}:127.0.0.1:" in none.out


def test_each_viewer_is_told_in_its_own_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VMLAB_CONFIG", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("DISPLAY", ":0")
    uri, display, bare = "qemu:///system", Display("127.0.0.1", 5907, "secret12"), Display("127.0.0.1", 5907)
    assert _viewer(uri, "u-u", display) is None
    env = {"VNC_PASSWORD": "secret12"}
    for name, viewer in (
        ("gvncviewer", Viewer(("gvncviewer", "127.0.0.1:7"))),
        ("xtigervncviewer", Viewer(("xtigervncviewer", "127.0.0.1::5907"), True, env)),
        ("vncviewer", Viewer(("vncviewer", "127.0.0.1::5907"), False, env)),
        (
            "virt-viewer",
            Viewer(("virt-viewer", "--attach", "--connect", uri, "--", "u-u"), True),
        ),
    ):
        (tmp_path / name).touch(mode=0o755)
        assert _viewer(uri, "u-u", display) == viewer
        assert "secret12" not in repr(viewer)
    remote = tmp_path / "remote-viewer"
    remote.write_text(f'#!/bin/sh\n/usr/bin/stat -c "%a $#" "$1" >{tmp_path}/saw; . "$1"; exit 7\n')
    remote.chmod(0o755)
    assert _viewer(uri, "u-u", bare) == Viewer(("remote-viewer", "vnc://127.0.0.1:5907"))
    found = _viewer(uri, "u-u", display)
    assert found and found.argv == ("remote-viewer",)
    assert {"type=vnc", "host=127.0.0.1", "port=5907", "password=secret12", "delete-this-file=1"} < set(
        found.file.splitlines()
    )
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(LabError, match="exit status"):
        found.start()
    assert (tmp_path / "saw").read_text() == "600 1\n"
    assert not list(tmp_path.glob("*.vv")), "what a viewer did not take is removed"
    monkeypatch.delenv("DISPLAY")
    assert _viewer(uri, "u-u", display) is None
    (tmp_path / "config.yaml").write_text("schema: 1\nviewer: mine -Shared\n")
    assert _viewer(uri, "u-u", bare) == Viewer(("mine", "-Shared", "vnc://127.0.0.1:5907"))


def test_displays_are_read_from_the_xml() -> None:
    def read(graphics: str) -> Display | None:
        return display_of(f"<domain><devices>{graphics}</devices></domain>")

    assert read("<graphics type='vnc' port='5901' listen='127.0.0.1'/>") == Display("127.0.0.1", 5901)
    assert read("<graphics type='vnc' port='5901' listen='::' passwd='x'/>") == Display(
        "127.0.0.1", 5901, "x"
    )
    assert read("<graphics type='vnc' port='5901' listen='fe80::1'/>") == Display("[fe80::1]", 5901)
    for none in ("", "<graphics type='vnc' port='-1'/>", "<graphics type='spice' port='5901'/>"):
        assert read(none) is None


@pytest.mark.parametrize(
    ("uri", "far"),
    [
        ("qemu:///system", ""),
        ("test:///default", ""),
        ("qemu+unix:///system?socket=/x", ""),
        ("qemu+ssh://me@far.example/system", "me@far.example"),
        ("qemu+tls://far.example/system", "far.example"),
    ],
)
def test_a_display_elsewhere_is_told_apart(uri: str, far: str) -> None:
    assert _far(uri) == far
