"""``vmlab image build`` and ``vmlab image add``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from vmlab_tui.base.errors import UsageError
from vmlab_tui.base.ids import is_name
from vmlab_tui.base.units import size
from vmlab_tui.verbs.verb import Args, Context, Kind, Outcome, Param, Verb, blocking

if TYPE_CHECKING:
    from vmlab_tui.images.store import Image


async def build(ctx: Context, ref: str) -> Image:
    """Build, prove and publish the image of a recipe, telling the front how it goes."""
    from vmlab_tui.spec.recipe import load_recipe

    recipe = await blocking(lambda: load_recipe(ref))

    from vmlab_tui.runs.imagebuild import build_image

    front = ctx.front
    async with ctx.host() as host:
        image = await build_image(
            ctx.lab.store,
            host,
            recipe,
            on_event=front.status,
            on_stage=front.phase,
            on_line=front.output,
        )
    ctx.front.say(f"image '{image.name}' is ready: {size(image.disk_size)}")
    return image


class ImageBuild(Verb):
    """Build an image from a recipe and prove that it boots."""

    id = "image.build"
    words = ("image", "build")
    help = "Build an image from a recipe, boot it, then publish it"
    long_help = """\
RECIPE is a file, or the name of a recipe in ./images, ./profiles/images, your own folder or of
those that ship (debian-12, debian-13). It is built with mmdebstrap from this machine's own package
sources.

An image of the same name stays in use until the new one has booted and answered SSH, and VMs that
stand on it keep it. Interrupted at any point, a build leaves no image, mount or loop device. Needs
root."""
    examples = (
        ("vmlab image build debian-12", "about 2 minutes"),
        ("vmlab image build ./my-recipe.yaml", ""),
    )
    areas = ("images",)
    key = "b"
    long = True
    params = (
        Param(
            "recipe",
            "A recipe's name or file.",
            positional=True,
            required=True,
            metavar="RECIPE",
            names="recipe",
        ),
    )

    async def run(self, ctx: Context, args: Args) -> Outcome:
        from vmlab_tui.verbs.images import image_json

        image = await build(ctx, args.text("recipe"))
        return Outcome(image_json(image), (f"image {image.name}: {image.file}",))


class ImageAdd(Verb):
    """Take a disk file into the store."""

    id = "image.add"
    words = ("image", "add")
    help = "Take a disk image file into the store"
    long_help = """\
FILE is a qcow2 or raw disk. It is looked at before any other program reads it: a backing file, an
external data file or a format that is not certain is refused. The file itself is copied and stays
as it is.

--sha256 refuses the file unless it has that digest."""
    examples = (
        ("vmlab image add ./disk.qcow2", "named after the file"),
        ("vmlab image add ./disk.qcow2 --name golden --sha256 DIGEST", ""),
    )
    areas = ("images",)
    key = "a"
    asks = ("file", "name", "sha256")
    params = (
        Param(
            "file",
            "A qcow2 or raw disk image.",
            kind=Kind.FILE,
            positional=True,
            required=True,
            metavar="FILE",
        ),
        Param("name", "What to call it (default: the file's name).", metavar="NAME"),
        Param("sha256", "The SHA-256 digest that the file must have.", metavar="DIGEST"),
    )

    async def run(self, ctx: Context, args: Args) -> Outcome:
        file = await blocking(Path(args.text("file")).expanduser)
        name = args.optional("name") or file.name.partition(".")[0]
        if not is_name(name):
            raise UsageError(
                f"'{name}' cannot name an image", hint="choose one with --name, such as --name golden"
            )
        digest = args.optional("sha256")
        if digest is not None and not re.fullmatch(r"[0-9A-Fa-f]{64}", digest):
            raise UsageError(f"--sha256 '{digest[:80]}': not 64 hexadecimal digits", hint=f"sha256sum {file}")

        from vmlab_tui.images.store import add_image
        from vmlab_tui.lab.trash import make_store
        from vmlab_tui.verbs.images import image_json

        async with ctx.host(readonly=True) as host:
            facts = await host.facts()
        await blocking(
            lambda: make_store(ctx.lab.store, facts.qemu_uid, facts.qemu_gid, system=ctx.lab.system)
        )
        image = await add_image(ctx.lab.store, file, name, sha256=digest and digest.lower())
        line = f"image {image.name}: {image.format}, {size(image.disk_size)}, sha256 {image.digest[:12]}"
        return Outcome(image_json(image), (line,))
