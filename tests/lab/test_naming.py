"""What disk files name, while others make them and take them away."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

from tests.lab.disks import qcow2
from vmlab_tui.lab.naming import Headers


def test_a_file_that_is_gone_by_now_names_nothing(tmp_path: Path) -> None:
    path = qcow2(tmp_path / "x.qcow2", "base")
    facts = path.stat()
    assert Headers().named(str(path), facts).refs == (("backing file", str(tmp_path / "base")),)
    path.unlink()
    assert Headers().named(str(path), facts).problem == ""
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    inner = qcow2(deep / "x.qcow2", "base")
    facts = inner.stat()
    shutil.rmtree(tmp_path / "a")
    assert Headers().named(str(inner), facts).problem == "", "its directory went with it"
    elsewhere = Path("/dev/shm/vmlab-test-no-such-file")
    assert facts.st_dev != elsewhere.parent.stat().st_dev
    assert Headers().named(str(elsewhere), facts).problem, (
        "it lay on a file system that is not there any more"
    )


def test_a_header_in_the_making_is_waited_for(tmp_path: Path) -> None:
    path = qcow2(tmp_path / "x.qcow2", "base")
    whole = path.read_bytes()
    path.write_bytes(whole[:600])

    def finish() -> None:
        time.sleep(0.25)
        path.write_bytes(whole)

    writer = threading.Thread(target=finish)
    writer.start()
    found = Headers().named(str(path), path.stat())
    writer.join()
    assert found.refs == (("backing file", str(tmp_path / "base")),)


def test_an_old_file_that_makes_no_sense_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "x.qcow2"
    path.write_bytes(b"QFI\xfb\0\0\0\x03" + bytes(1000))
    begun = time.monotonic()
    assert Headers().named(str(path), path.stat()).problem
    assert time.monotonic() - begun > 0.5, "it is new, and may be in the making"
    while time.time() - path.stat().st_ctime < 2.1:
        time.sleep(0.1)
    begun = time.monotonic()
    assert Headers().named(str(path), path.stat()).problem
    assert time.monotonic() - begun < 0.2
