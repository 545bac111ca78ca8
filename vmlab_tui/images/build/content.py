"""What an image of ours contains beyond its packages. Text only; `inner` writes it."""

from __future__ import annotations

import json
import shlex

from vmlab_tui.spec.recipe import Recipe

REQUIRED = (
    "systemd-sysv",
    "udev",
    "dbus",
    "initramfs-tools",
    "zstd",
    "kmod",
    "iproute2",
    "cloud-init",
    "cloud-guest-utils",
    "e2fsprogs",
    "openssh-server",
    "qemu-guest-agent",
    "sudo",
    "systemd-resolved",
    "libpam-systemd",
    "debian-archive-keyring",
)
"""Without these an image does not boot, cannot be reached or cannot be managed."""

INITRAMFS = "MODULES=list\nCOMPRESS=zstd\nCOMPRESSLEVEL=3\nFSTYPE=ext4\n"
"""A list of modules instead of all of them: a third of the size, and seconds less to unpack when emulated."""

INITRAMFS_MODULES = (
    "virtio_pci",
    "virtio_blk",
    "virtio_scsi",
    "sd_mod",
    "nvme",
    "ahci",
    "ata_piix",
    "ext4",
    "crc32c",
    "crc32c_intel",
)
"""Every bus that a libvirt tool may put the disk on; a kernel that lacks one just leaves it out."""

DPKG_EXCLUDES = (
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/locale/*",
    "path-include=/usr/share/locale/locale.alias",
)

MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "dpkg-db-backup.timer",
    "systemd-pstore.service",
)
"""Units that only cost a short-lived guest time; apt's timers also hold its lock when a run wants it."""

ENABLED = (
    "systemd-networkd.service",
    "systemd-resolved.service",
    "ssh.service",
    "serial-getty@ttyS0.service",
)

# Modules for other clouds and distributions cost imports at every boot; the rest is what cloud-init ships.
_INIT = "seed_random bootcmd write-files growpart resizefs disk_setup mounts set_hostname update_hostname"
_INIT += " update_etc_hosts ca-certs rsyslog users-groups ssh"
# The modules of the third stage and of the last, which follows it, run in one process: each stage imports
# cloud-init anew, which takes six seconds when emulated (4.8 s of imports by -X importtime, version 22.4).
_FINAL = "keyboard locale set-passwords apt-configure ntp timezone disable-ec2-metadata runcmd"
_FINAL += " package-update-upgrade-install write-files-deferred puppet chef ansible salt-minion"
_FINAL += " scripts-vendor scripts-per-once scripts-per-boot scripts-per-instance scripts-user"
_FINAL += " phone-home final-message power-state-change"


def cloud_cfg(recipe: Recipe) -> str:
    """cloud-init's settings, as JSON (which is YAML)."""
    config = {
        "datasource_list": ["NoCloud", "None"],
        "system_info": {
            "default_user": {
                "name": recipe.user,
                "lock_passwd": True,
                "gecos": "lab user",
                "groups": ["sudo", "adm"],
                "sudo": "ALL=(ALL) NOPASSWD:ALL",
                "shell": "/bin/bash",
            },
            "network": {"renderers": ["networkd"]},
        },
        "ssh_genkeytypes": ["ed25519"],
        "ssh": {"emit_keys_to_console": False},
        "no_ssh_fingerprints": True,
        # as it is set already: cloud-init's own default would be generated at the first boot
        "locale": recipe.locale,
        "apt": {"preserve_sources_list": True},
        "cloud_init_modules": _INIT.split(),
        "cloud_config_modules": [],
        "cloud_final_modules": _FINAL.split(),
    }
    return "# written when the image was built\n" + json.dumps(config, indent=1) + "\n"


def kernel_line(recipe: Recipe) -> str:
    """The kernel's command line.

    Self-tests of ciphers take seconds when emulated. An emulated machine on a busy host misses ticks:
    then the timer check panics, or the kernel leaves the TSC for a clock that hangs. Both were seen, so
    neither is checked. Under KVM the guest uses kvm-clock anyway.
    """
    ours = ["net.ifnames=0", "cryptomgr.notests", "no_timer_check", "tsc=reliable"]
    return " ".join(["root=LABEL=root", "rw", *recipe.kernel_arguments, *ours])


def extlinux_conf(recipe: Recipe) -> str:
    """The boot menu: one entry through the links that kernel packages keep up to date."""
    return (
        "SERIAL 0 115200\nDEFAULT linux\nPROMPT 0\nTIMEOUT 0\nLABEL linux\n"
        f"  LINUX /vmlinuz\n  INITRD /initrd.img\n  APPEND {kernel_line(recipe)}\n"
    )


def sshd_conf(recipe: Recipe) -> str:
    settings = {
        "PasswordAuthentication": "no",
        "PermitRootLogin": "prohibit-password",
        "UseDNS": "no",
    } | recipe.sshd
    return "".join(f"{key} {value}\n" for key, value in settings.items())


def files(recipe: Recipe, sources: str) -> dict[str, tuple[str, int]]:
    """Path in the guest to (text, mode). ``sources`` is the guest's debian.sources."""
    return {
        "etc/cloud/cloud.cfg.d/90_vmlab.cfg": (cloud_cfg(recipe), 0o644),
        "etc/sudoers.d/90-vmlab": (f"{recipe.user} ALL=(ALL) NOPASSWD:ALL\n", 0o440),
        "etc/ssh/sshd_config.d/10-vmlab.conf": (sshd_conf(recipe), 0o644),
        "etc/hostname": (f"{recipe.name}\n", 0o644),
        "etc/hosts": ("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n", 0o644),
        "etc/fstab": ("LABEL=root / ext4 errors=remount-ro,discard 0 1\n", 0o644),
        "etc/default/locale": (f"LANG={recipe.locale}\n", 0o644),
        "etc/timezone": (f"{recipe.timezone}\n", 0o644),
        # cards that cloud-init was told nothing of
        "etc/systemd/network/99-dhcp.network": ("[Match]\nType=ether\n\n[Network]\nDHCP=yes\n", 0o644),
        "etc/apt/sources.list": ("", 0o644),
        "etc/apt/sources.list.d/debian.sources": (sources, 0o644),
        "boot/extlinux/extlinux.conf": (extlinux_conf(recipe), 0o644),
    }


def chroot_script(recipe: Recipe) -> str:
    """What has to run inside: the login user without any password, units, no identity of its own."""
    user = shlex.quote(recipe.user)
    masked, enabled = " ".join(MASKED), " ".join(ENABLED)
    return f"""\
set -eu
useradd -m -s /bin/bash -G sudo,adm -c 'lab user' -p '*' {user}
usermod -p '*' root
ln -sf /usr/share/zoneinfo/{shlex.quote(recipe.timezone)} /etc/localtime
systemctl mask {masked} >/dev/null 2>&1
# without modules of its own this stage would only import cloud-init; where one process runs all stages, they
# are cheap, and it waits for each
[ -e /usr/lib/systemd/system/cloud-init-main.service ] || systemctl mask cloud-config.service >/dev/null 2>&1
systemctl enable {enabled} >/dev/null 2>&1
ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf
"""


FORGET = (
    "etc/ssh/ssh_host_*",
    "var/lib/dbus/machine-id",
    "var/lib/systemd/random-seed",
    "var/lib/systemd/credential.secret",
    "etc/apt/apt.conf.d/99mmdebstrap",
    "etc/apt/sources.list.d/0000*",
    "var/lib/apt/lists/*",
    "var/cache/apt/*.bin",
    "var/cache/apt/archives/*.deb",
    "var/cache/debconf/*-old",
    "var/lib/dpkg/*-old",
    "var/log/*.log",
    "var/log/apt/*",
    "root/.bash_history",
    "root/.ssh",
    "tmp/*",
    "var/tmp/*",
    # While it is there each login, also one without a terminal, starts four programs for a greeting: a fifth
    # of the time of an `ssh true` under emulation.
    "etc/update-motd.d",
)
"""Taken out of the finished root: identity, what is made anew when needed, and what only costs time."""
