"""Hostile text of guests, libvirt and files through every screen, at a real terminal."""

from __future__ import annotations

import os
from pathlib import Path
from xml.sax.saxutils import escape

import pytest

from tests.runs.samples import plan
from tests.support.hostile import PAYLOAD, TEXTS, log
from tests.support.ptyapp import PtyApp, assert_only_ours
from vmlab_tui.journal.log import Journal
from vmlab_tui.runs.plan import Plan, write_plan

_CODE = "from vmlab_tui.tui.app import run; run()"


def _legal(text: str) -> str:
    """What XML 1.0 can say of it; libvirt itself takes no slash in a name."""
    kept = (c for c in text if c in "\t\n" or 0x20 <= ord(c) <= 0xD7FF or ord(c) >= 0xE000)
    return "".join(kept).replace("/", "").replace("\n", "").strip()


def host_file(path: Path) -> Path:
    """libvirt's test driver with a domain for each text that can be a name."""
    names = dict.fromkeys(f"{number} {_legal(text)[:200]}" for number, text in enumerate(TEXTS))
    domains = "".join(
        f"<domain type='test'><name>{escape(name)}</name><uuid>{number:032x}</uuid>"
        f"<memory>65536</memory><vcpu>1</vcpu><os><type>hvm</type></os>"
        f"<description>{escape(_legal(TEXTS[number % len(TEXTS)]))}</description></domain>"
        for number, name in enumerate(names, 1)
    )
    path.write_text(f"<node>{domains}</node>", encoding="utf-8")
    return path


def hostile_run(store: Path, number: int, text: str, *, over: bool) -> Plan:
    """A run whose words and logs are hostile wherever a guest, a profile or libvirt could put theirs."""
    base = plan(store)
    named = [
        step.model_copy(update={"name": text or "-"}) if step.index is not None else step
        for step in base.steps
    ]
    vm = base.vm.model_copy(update={"name": text or "-"})
    one = base.model_copy(
        update={
            "run_id": f"sample-20260102-1314{number:02}-7f3a",
            "steps": tuple(named),
            "vm": vm,
            "owner": text,
        }
    )
    folder = store / "runs" / one.run_id
    (folder / "steps").mkdir(parents=True)
    write_plan(folder, one)
    failing = next(step for step in one.steps if step.index is not None)
    (folder / "steps" / failing.log_name(1)).write_bytes(log())
    for name in ("console.log", "cloud-init.log", "commands.log", "report.md"):
        (folder / name).write_bytes(log())
    with Journal.append(folder / "journal.jsonl") as journal:
        journal.write("run_created", run_id=one.run_id, profile=text, plan_sha="0")
        journal.write("worker_started", pid=os.getpid(), boot_id="b", start_ticks=1, resumed=False)
        journal.write("intent", what="domain", id=text, detail=text)
        journal.write("step_started", number=failing.number, attempt=1)
        journal.write("stage", number=failing.number, attempt=1, stage=text, detail=text)
        journal.write("note", text=text, level="warn")
        journal.write(
            "step_finished", number=failing.number, attempt=1, state="failed", seconds=1.0, detail=text
        )
        journal.write(
            "check_result",
            number=failing.number,
            check=text,
            component=text,
            state="failed",
            seconds=0.1,
            detail=text,
            evidence=text,
        )
        if over:
            journal.write(
                "ended", state="failed", exit=1, disposition="kept", seconds=2.0, detail=text, until=None
            )
    return one


@pytest.fixture
def hostile_lab(tmp_path: Path) -> dict[str, str]:
    """The environment of a vmlab whose whole lab is hostile."""
    store = tmp_path / "store"
    for number, text in enumerate(TEXTS):
        # what a profile or a journal may hold is text; half a character is none
        hostile_run(store, number, text[:3000].encode(errors="replace").decode(), over=bool(number % 2))
    folder = tmp_path / "profiles"
    folder.mkdir()
    for number, text in enumerate(TEXTS):
        words = text[:500].encode(errors="replace").decode().replace("\x00", "")
        quoted = "".join(f"\\u{ord(c):04x}" if ord(c) < 0x10000 else f"\\U{ord(c):08x}" for c in words)
        (folder / f"p{number}.yaml").write_text(
            f'schema: 1\nname: p{number}\ndescription: "{quoted}"\nimage: tiny\n', encoding="utf-8"
        )
    config = tmp_path / "config"
    config.mkdir()
    (config / "config.yaml").write_text(f"schema: 1\nprofiles: [{folder}]\n")
    return {
        "VMLAB_STORE": str(store),
        "VMLAB_CONFIG": str(config),
        "LIBVIRT_DEFAULT_URI": f"test://{host_file(tmp_path / 'host.xml')}",
    }


def alive(app: PtyApp) -> None:
    """It still answers, and leaves when asked."""
    app.quiet = 0.5  # what was begun may still open a dialog
    app.press(b"\x1b", b"\x1b", b"\x1b")
    assert_only_ours(app.output)
    mark = len(app.output)
    os.write(app._master, b"?")
    app.until(b"Keys that work here", since=mark)
    app.settle()
    app.press(b"\x1b", b"\x1b", b"1")
    os.write(app._master, b"q")
    assert app.status() == 0
    assert PAYLOAD.encode() not in app.output.rpartition(b"\x1b[?1049l")[2]


def test_names_of_vms_and_all_that_is_known_of_them(hostile_lab: dict[str, str]) -> None:
    with PtyApp(_CODE, env=hostile_lab, columns=120, lines=40) as app:
        app.until(b" ok")
        app.quiet = 0.08
        for _ in TEXTS:
            app.press(b"\x1b[B")  # its details stand beside
        alive(app)


def test_what_is_done_to_a_vm(hostile_lab: dict[str, str]) -> None:
    with PtyApp(_CODE, env=hostile_lab) as app:
        app.until(b" ok")
        app.quiet = 0.08
        app.settle()
        for _ in TEXTS[::8]:
            app.press(*[b"\x1b[B"] * 8, b"\r", b"\x1b")  # its details instead, and back
        app.press(b"y", b"\x1b", b"i", b"\x1b", b"D", b"\x1b", b"p", b"n", b"@", b"\x1b")
        app.press(b":", b"c", b"l", b"\x1b")
        alive(app)


def test_every_pane_of_a_run(hostile_lab: dict[str, str]) -> None:
    with PtyApp(_CODE, env=hostile_lab, columns=120, lines=40) as app:
        app.until(b" ok")
        app.quiet = 0.08
        app.press(b"2")
        app.settle()
        for _ in range(4):
            app.press(b"\x1b[B")
        app.press(b"\r")
        for _ in range(4):
            app.press(b"\t", b"\x1b[5~", b"\x1b[5~", b"\x1b[6~", b"w", b"w")
        app.press(b"!", b"!", b"/", b"r", b"\r", b"n", b"n", b"N", b"\x1b", b"\x1b")
        alive(app)


def test_every_run_of_the_list_and_its_screen(hostile_lab: dict[str, str]) -> None:
    with PtyApp(_CODE, env=hostile_lab) as app:
        app.until(b" ok")
        app.quiet = 0.08
        app.press(b"2")
        for _ in TEXTS[::3]:
            app.press(b"\x1b[B", b"\x1b[B", b"\x1b[B", b"\r", b"\x1b")
        app.press(b"/", b"[", b"/", b"\r", b"\x1b")
        alive(app)


def test_profiles_to_pick_from(hostile_lab: dict[str, str]) -> None:
    with PtyApp(_CODE, env=hostile_lab) as app:
        app.until(b" ok")
        app.quiet = 0.08
        app.press(b"n")
        for _ in TEXTS[::3]:
            app.press(b"\x1b[B", b"\x1b[B", b"\x1b[B")
        app.press(b"\x1b", b"3", b"\x1b")
        alive(app)
