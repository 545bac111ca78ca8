"""What every image is given, for the recipes that ship."""

from __future__ import annotations

import json
import subprocess

import pytest

from vmlab_tui.images.build import content
from vmlab_tui.images.build.disk import _Listener
from vmlab_tui.spec.recipe import Recipe, load_recipe


@pytest.fixture(params=["debian-12", "debian-13"])
def recipe(request: pytest.FixtureRequest) -> Recipe:
    return load_recipe(str(request.param))


def test_cloud_init_reads_only_the_seed_and_makes_no_password(recipe: Recipe) -> None:
    config = json.loads(content.cloud_cfg(recipe).partition("\n")[2])
    assert config["datasource_list"] == ["NoCloud", "None"]
    user = config["system_info"]["default_user"]
    assert user["name"] == recipe.user
    assert user["lock_passwd"] is True
    assert {"users-groups", "ssh", "bootcmd", "set_hostname", "resizefs"} <= set(config["cloud_init_modules"])
    assert config["cloud_config_modules"] == [], "its stage is left out"
    final = config["cloud_final_modules"]
    order = ["apt-configure", "runcmd", "package-update-upgrade-install", "scripts-user", "final-message"]
    assert sorted(order, key=final.index) == order
    assert "passw" not in json.dumps(config).replace("lock_passwd", "").replace("set-passwords", "")


def test_boot_menu_speaks_on_the_serial_line(recipe: Recipe) -> None:
    menu = content.extlinux_conf(recipe)
    assert menu.startswith("SERIAL 0 115200\n")
    assert "console=ttyS0,115200" in menu
    assert "root=LABEL=root" in menu


def test_sudo_asks_for_no_password(recipe: Recipe) -> None:
    text, mode = content.files(recipe, "")["etc/sudoers.d/90-vmlab"]
    assert mode == 0o440
    assert text == f"{recipe.user} ALL=(ALL) NOPASSWD:ALL\n"


def test_a_recipes_sshd_settings_win(recipe: Recipe) -> None:
    own = recipe.model_copy(update={"sshd": {"UseDNS": "yes", "MaxSessions": "99"}})
    lines = content.sshd_conf(own).splitlines()
    assert "UseDNS yes" in lines
    assert "UseDNS no" not in lines
    assert "MaxSessions 99" in lines
    assert "PasswordAuthentication no" in lines


def test_the_script_for_the_chroot_is_shell(recipe: Recipe) -> None:
    odd = recipe.model_copy(update={"timezone": "Europe/Berlin'; touch /tmp/x; '"})
    for one in (recipe, odd):
        subprocess.run(["sh", "-n"], input=content.chroot_script(one), text=True, check=True)
    assert "touch /tmp/x; '\n" not in content.chroot_script(odd)


def test_progress_is_made_of_what_the_programs_say() -> None:
    lines: list[str] = []
    stages: list[tuple[str, str]] = []
    listener = _Listener(lines.append, lambda stage, detail: stages.append((stage, detail)))
    for raw in (
        b"@stage packages resolving",
        b"I: extracting archives...",
        b"Setting up \x1b[31mcurl (8) ...",
        b"@stage file system",
        b"@kernel 6.1.0",
        b"@failed extlinux: exit status 1",
    ):
        listener(raw)
    listener.close()
    assert [stage for stage, _ in stages] == ["packages", "packages", "packages", "file system"]
    assert stages[2][1].endswith("(1)")
    assert all(line.isprintable() for line in lines)
    assert listener.phases.keys() == {"packages", "file system"}
    assert (listener.kernel, listener.failed) == ("6.1.0", "extlinux: exit status 1")
