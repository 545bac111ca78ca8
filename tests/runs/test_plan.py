"""Plans, and what preflight finds; on this machine's libvirt where it is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runs.samples import plan, profile
from tests.support.lab import put_image
from vmlab_tui.base.errors import LabError, Refused, UsageError
from vmlab_tui.base.paths import Store
from vmlab_tui.hosts.host import Host
from vmlab_tui.images.store import get_image, image_file
from vmlab_tui.lab.context import Lab
from vmlab_tui.runs.plan import CHECK_SECONDS, CLOSING, OPENING, breaks_of, plan_steps, read_plan, write_plan
from vmlab_tui.runs.prepare import Prepared, prepare
from vmlab_tui.runs.request import RunRequest
from vmlab_tui.runs.start import told
from vmlab_tui.verbs.run import plan_lines

PROFILE = """\
schema: 1
name: sample
image: {image}
vm: {{cpus: 1, memory: {memory}, disk: 64MiB, accel: tcg, firmware: {firmware}}}
required: {required}
"""


async def prepared(
    host: Host,
    store: Store,
    folder: Path,
    image: str,
    *,
    memory: str = "192MiB",
    required: str = "[]",
    firmware: str = "bios",
    env: dict[str, str] | None = None,
) -> Prepared:
    path = folder / "sample.yaml"
    path.write_text(PROFILE.format(image=image, memory=memory, required=required, firmware=firmware))
    return await prepare(Lab(host.uri, store), host, RunRequest(profile=str(path)), environ=env or {})


def test_steps_are_numbered_and_in_the_order_of_the_design() -> None:
    steps = plan_steps(profile())
    assert [one.number for one in steps] == list(range(1, len(steps) + 1))
    assert [one.kind for one in steps] == [*OPENING, "run", "run", *CLOSING]
    assert steps[len(OPENING)].component == "desktop"
    assert steps[len(OPENING)].log_name(2) == "10-install-desktop.2.log"


def test_the_time_for_the_checks_is_that_of_all_of_them() -> None:
    def seconds(*within: float) -> float:
        checks = [{"kind": "command", "params": {"command": "true"}, "within": one} for one in within]
        return next(one.timeout for one in plan_steps(profile(checks=checks)) if one.kind == "checks")

    assert seconds(0, 30, 0) == 3 * CHECK_SECONDS + 30
    assert seconds() > 0


def test_a_step_name_cannot_leave_the_folder_of_logs() -> None:
    step = {"kind": "run", "name": "../../etc/passwd\x1b[31m", "script": "true", "timeout": 1}
    (made,) = [one for one in plan_steps(profile(steps=[step])) if one.kind == "run"]
    assert made.log_name(1) == "10-etc-passwd-31m.1.log"


def test_a_plan_is_read_back_as_written_and_a_newer_one_is_refused(tmp_path: Path) -> None:
    written = plan()
    write_plan(tmp_path, written)
    assert read_plan(tmp_path) == written
    assert read_plan(tmp_path).sha == written.sha
    path = tmp_path / "plan.json"
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 7', 1))
    with pytest.raises(LabError, match="schema 7"):
        read_plan(tmp_path)


async def test_everything_that_speaks_against_a_run_is_found_at_once(host: Host, tmp_path: Path) -> None:
    store = Store(tmp_path / "new" / "store")
    found = await prepared(host, store, tmp_path, "no-such", memory="900000GiB", required="[AA, BB]")
    bad = {one.what: one for one in found.refused}
    assert {"image", "variables", "space", "memory"} <= bad.keys()
    assert "no recipe of that name" in bad["image"].detail
    assert "AA is not set, BB is not set" in bad["variables"].detail
    assert all(one.fix for one in bad.values())
    assert found.build == ""
    assert [one.kind for one in found.plan.steps] == [*OPENING, *CLOSING]
    assert found.plan.image.name == "no-such" and not found.plan.image.digest
    assert not (tmp_path / "new").exists()
    with pytest.raises(Refused) as told:
        found.raise_if_refused()
    for one in found.refused:
        assert f"{one.what}: {one.detail}" in told.value.message
        assert f"-> {one.fix}" in told.value.message


async def test_an_image_is_to_be_built_only_if_nothing_else_is_in_the_way(
    host: Host, lab_store: Store, tmp_path: Path
) -> None:
    found = await prepared(host, lab_store, tmp_path, "debian-12")
    assert [one.what for one in found.refused] == ["image"]
    assert found.build == "debian-12"
    assert found.refused[0].fix == "build it: vmlab image build debian-12"
    more = await prepared(host, lab_store, tmp_path, "debian-12", required="[AA]")
    assert [one.what for one in more.refused] == ["image", "variables"]
    assert more.build == ""
    given = await prepared(host, lab_store, tmp_path, "debian-12", required="[AA]", env={"AA": "1"})
    assert given.build == "debian-12"


async def test_where_nobody_can_go_back_the_plan_says_so_and_why(
    host: Host, lab_store: Store, tiny_image: str, tmp_path: Path
) -> None:
    why = await host.can_time_travel("uefi", "qcow2")
    if not why:
        pytest.skip("this libvirt can take snapshots of UEFI guests")
    found = await prepared(host, lab_store, tmp_path, tiny_image, firmware="uefi")
    assert not found.refused
    (warning,) = [one for one in found.findings if one.what == "time travel"]
    assert (warning.level, warning.detail) == ("warn", f"none: {why}")
    assert found.plan.keys == (), "nothing of it can be reused"
    assert told(found.plan) == f"cold: boots from the image; no time travel: {why}"
    text = "\n".join(plan_lines(found))
    assert text.count("no time travel") == 1, text


async def test_an_image_of_ours_that_boots_otherwise_is_warned_of(
    host: Host, lab_store: Store, tiny_image: str, tmp_path: Path
) -> None:
    plain = get_image(lab_store, tiny_image)
    built = plain.model_copy(update={"name": "built", "file": "built.qcow2", "recipe": "built"})
    put_image(lab_store, built, image_file(lab_store, plain))
    found = await prepared(host, lab_store, tmp_path, "built", firmware="uefi")
    (warning,) = [one for one in found.findings if one.what == "image"]
    assert (warning.level, found.refused) == ("warn", ())
    assert "boots by bios, so uefi will find nothing" in warning.detail
    for name, firmware in (("built", "bios"), (tiny_image, "uefi")):  # an imported one may boot by either
        found = await prepared(host, lab_store, tmp_path, name, firmware=firmware)
        assert [one.level for one in found.findings if one.what == "image"] == ["ok"]


async def test_an_image_that_is_damaged_or_gone_is_a_finding(
    host: Host, lab_store: Store, tiny_image: str, tmp_path: Path
) -> None:
    good = await prepared(host, lab_store, tmp_path, tiny_image)
    assert not good.refused
    assert good.plan.image.digest
    good.plan.image.file.unlink()
    gone = await prepared(host, lab_store, tmp_path, tiny_image)
    assert [one.detail for one in gone.refused] == [f"{good.plan.image.file} is gone"]
    (lab_store.images / f"{tiny_image}.json").write_text("{")
    damaged = await prepared(host, lab_store, tmp_path, tiny_image)
    assert [one.what for one in damaged.refused] == ["image"]
    assert "is damaged" in damaged.refused[0].detail
    assert damaged.refused[0].fix


def test_breaks_are_named_by_number_or_name_and_a_wrong_one_is_told() -> None:
    steps = plan_steps(profile())
    own = len(OPENING) + 1
    found = breaks_of(steps, ["install rdp:after", str(own), "boot", str(own)], stepwise=False)
    assert [(one.number, one.where) for one in found] == [(own + 1, "after"), (own, "before"), (5, "before")]
    assert [one.number for one in breaks_of(steps, [], stepwise=True)] == [own, own + 1]
    with pytest.raises(UsageError) as caught:
        breaks_of(steps, ["instal rdp"], stepwise=False)
    assert "install rdp" in caught.value.hint
