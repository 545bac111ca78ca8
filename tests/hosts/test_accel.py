"""KVM or emulation, decided by the clock."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from vmlab_tui.base import proc
from vmlab_tui.base.errors import Refused, UsageError
from vmlab_tui.hosts import accel
from vmlab_tui.hosts.accel import Timing, choose_accel, time_payload
from vmlab_tui.hosts.model import Accel
from vmlab_tui.hosts.payload import counter


def test_the_payload_is_a_boot_sector() -> None:
    code = counter(5)
    assert len(code) == 512
    assert code.endswith(b"\x55\xaa")


async def test_the_payload_counts_and_leaves_under_emulation() -> None:
    short = await time_payload(Accel.TCG, 1, 60)
    long = await time_payload(Accel.TCG, 300_000_000, 60)
    assert short.seconds is not None, short.trouble
    assert long.seconds is not None, long.trouble
    assert long.seconds > short.seconds + 0.5, "the count is really counted"


async def test_a_payload_that_crawls_is_killed_at_the_limit() -> None:
    begin = time.monotonic()
    timing = await time_payload(Accel.TCG, 0xFFFFFFFF, 1.0)
    assert timing == Timing(None, "was not done after 1.0 s")
    assert time.monotonic() - begin < 4
    left = subprocess.run(
        ["pgrep", "-P", str(os.getpid()), "-f", "vmlab-payload-"], capture_output=True
    ).stdout
    assert left == b""


async def test_a_qemu_that_fails_says_why() -> None:
    timing = await time_payload(Accel.TCG, 1, 20, cpu="no-such-cpu")
    assert timing.seconds is None
    assert "no-such-cpu" in timing.trouble


@pytest.mark.skipif(not Path("/dev/kvm").exists(), reason="no /dev/kvm")
async def test_auto_picks_what_is_faster_once(tmp_path: Path) -> None:
    runs: list[tuple[str, ...]] = []
    stop = proc.watch(runs.append)
    try:
        first = await choose_accel("auto", cache=tmp_path)
        measured = len([one for one in runs if "-machine" in one])
        assert measured >= 2
        again = await choose_accel("auto", cache=tmp_path)
        assert again == first
        assert len([one for one in runs if "-machine" in one]) == measured, "the second is from the cache"
        record = json.loads((tmp_path / "accel.json").read_text())
        (tmp_path / "accel.json").write_text(json.dumps(record | {"key": "another boot"}))
        await choose_accel("auto", cache=tmp_path)
        assert len([one for one in runs if "-machine" in one]) > measured, "another boot is measured anew"
    finally:
        stop()
    assert first.tcg is not None
    if first.accel is Accel.KVM:
        assert first.kvm is not None
        assert first.kvm < first.tcg
    else:
        assert first.kvm is None or first.kvm > 0.8 * first.tcg
    assert "\n" not in first.reason


async def test_a_broken_cache_is_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "accel.json").write_text('{"schema": 1, "key"')
    monkeypatch.setattr(accel, "COUNT", 1000)
    assert (await choose_accel("auto", cache=tmp_path)).accel in Accel


async def test_without_the_device_nothing_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accel, "KVM_DEVICE", tmp_path / "kvm")
    runs: list[tuple[str, ...]] = []
    stop = proc.watch(runs.append)
    choice = await choose_accel("auto", cache=tmp_path)
    stop()
    assert choice.accel is Accel.TCG
    assert "does not exist" in choice.reason
    assert runs == []
    with pytest.raises(Refused, match="does not exist"):
        await choose_accel("kvm")
    assert (await choose_accel("tcg")).accel is Accel.TCG
    with pytest.raises(UsageError):
        await choose_accel("xen")
