"""The part of a build that needs root, mounts and a chroot: runs in namespaces of its own.

Started by `disk.build_disk` as ``python -m vmlab_tui.images.build.inner FOLDER`` inside its own mount and
process namespaces, which the kernel tears down when the process that asked for them dies, however it dies.

Tells stages on standard output as ``@stage NAME DETAIL``; other lines come from the programs it runs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from vmlab_tui.base.faults import declare, point
from vmlab_tui.images.build import content
from vmlab_tui.images.build.job import Job

ROOT_MADE = declare("image.root-made", "the root file system is complete, in the builder's own namespace")
DISK_MOUNTED = declare("image.disk-mounted", "the disk is loop-mounted in the builder's own namespace")

# said one by one: newer mke2fs turns on features that the boot loader cannot read (64bit, metadata_csum,
# orphan_file), and older ones do not know the names to turn them off by
FEATURES = (
    "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,flex_bg,sparse_super,large_file,huge_file,"
    "dir_nlink,extra_isize"
)
MKE2FS = (
    *("mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-L", "root", "-m", "1", "-O", FEATURES),
    *("-E", "lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0"),
)
_ENV = {"LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


def stage(name: str, detail: str = "") -> None:
    print(f"@stage {name} {detail}", flush=True)


def call(argv: Sequence[str | Path], *, data: str | None = None) -> None:
    """Run a program, its output going where ours goes; ends the build with its status if that is not 0."""
    # what apt and hooks see of the caller's environment: a way to the mirror, nothing else
    kept = {key: value for key, value in os.environ.items() if key.lower().endswith("_proxy")}
    done = subprocess.run(
        [str(word) for word in argv],
        env={**kept, **_ENV, "TMPDIR": os.environ.get("TMPDIR", "/tmp")},  # noqa: S108
        stdin=None if data is not None else subprocess.DEVNULL,
        input=data.encode() if data is not None else None,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if done.returncode:
        print(f"@failed {argv[0]}: exit status {done.returncode}", flush=True)
        sys.exit(1)


def make_root(job: Job, root: Path, work: Path) -> None:
    """mmdebstrap, with the initramfs settings in place before the kernel is configured."""
    recipe = job.recipe
    settings = work / "initramfs"
    settings.write_text(content.INITRAMFS)
    modules = work / "modules"
    modules.write_text("".join(f"{name}\n" for name in content.INITRAMFS_MODULES))
    apt = work / "apt.conf"
    apt.write_text(job.apt_settings)
    packages = dict.fromkeys([*content.REQUIRED, recipe.kernel, *recipe.packages])
    argv: list[str | Path] = [
        "mmdebstrap",
        "--mode=root",
        "--verbose",  # dpkg's lines are the progress
        "--format=directory",
        f"--variant={recipe.variant}",
        f"--architectures={recipe.arch}",
        f"--components={','.join(recipe.components)}",
        f"--include={','.join(packages)}",
        f"--aptopt={apt}",
        '--aptopt=Apt::Install-Recommends "false"',
        '--aptopt=Acquire::Languages "none"',
        "--dpkgopt=force-unsafe-io",
        *(f"--dpkgopt={line}" for line in content.DPKG_EXCLUDES),
        '--essential-hook=mkdir -p "$1/etc/initramfs-tools/conf.d"',
        f'--essential-hook=cp {settings} "$1/etc/initramfs-tools/conf.d/vmlab"',
        f'--essential-hook=cp {modules} "$1/etc/initramfs-tools/modules"',
        recipe.suite,
        root,
        *job.sources,
    ]
    call(argv)


def furnish(job: Job, root: Path) -> None:
    """Our files, the login user, units, the recipe's hooks; then everything of its own is forgotten."""
    for name, (text, mode) in content.files(job.recipe, job.guest_sources).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
    # dpkg's excludes stay, or the first package a guest installs would bring back what was left out
    call(["chroot", root, "/bin/sh", "-s"], data=content.chroot_script(job.recipe))
    if job.recipe.hooks:
        resolv = root / "etc/resolv.conf"
        link = resolv.readlink()
        resolv.unlink()
        shutil.copy("/etc/resolv.conf", resolv)
        # packages that a hook installs must not start their services here
        policy = root / "usr/sbin/policy-rc.d"
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
        for kind, target in (("proc", "proc"), ("sysfs", "sys"), ("tmpfs", "run")):
            call(["mount", "-t", kind, kind, root / target])
        for number, hook in enumerate(job.recipe.hooks, 1):
            stage("hooks", f"{number} of {len(job.recipe.hooks)}")
            call(["chroot", root, "/bin/sh", "-e", "-s"], data=hook)
        for target in ("proc", "sys", "run"):
            call(["umount", "-l", root / target])
        policy.unlink()
        resolv.unlink()
        resolv.symlink_to(link)
    for pattern in content.FORGET:
        for path in root.glob(pattern):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    # newer than /usr: nothing is out of date, so the first boot need not bring system users, catalogues and
    # the hardware database up to date, which it would do one after the other before anything else
    for name in ("etc/.updated", "var/.updated"):
        (root / name).touch()
    # empty, not absent: systemd then makes a new one at first boot without thinking it a factory reset
    (root / "etc/machine-id").write_text("")


def kernel_of(root: Path) -> str:
    """The kernel's version; ends the build without one."""
    found = sorted(path.name.removeprefix("vmlinuz-") for path in root.glob("boot/vmlinuz-*"))
    if not found or not (root / "vmlinuz").is_symlink() or not (root / "initrd.img").is_symlink():
        print("@failed the kernel package left no kernel or initramfs", flush=True)
        sys.exit(1)
    return found[-1]


def make_disk(job: Job, root: Path, disk: Path, mount: Path) -> None:
    """ext4 on the whole disk, filled without a mount; then the boot loader, which needs one."""
    stage("file system")
    with disk.open("wb") as file:
        file.truncate(job.recipe.size)
    call([*MKE2FS, "-d", root, disk])
    stage("boot loader")
    mount.mkdir()
    # freed by itself with the mount, and the mount with the namespace
    call(["mount", "-o", "loop", disk, mount])
    point(DISK_MOUNTED)
    call(["extlinux", "--install", mount / "boot/extlinux"])
    call(["umount", mount])


def main(folder: Path) -> None:
    os.umask(0o022)
    job = Job.model_validate_json((folder / "job.json").read_bytes())
    root = folder / "root"
    root.mkdir()
    if job.memory:
        # in memory nothing has to be written twice, and nothing is left when the namespace goes
        call(["mount", "-t", "tmpfs", "-o", f"size={job.memory},mode=0755", "vmlab", root])
    stage("packages", "resolving")
    make_root(job, root, folder)
    stage("settings")
    furnish(job, root)
    kernel = kernel_of(root)
    point(ROOT_MADE)
    make_disk(job, root, folder / "disk.raw", folder / "mount")
    print(f"@kernel {kernel}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
