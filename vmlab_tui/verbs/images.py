"""``vmlab image list|show|rm``."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from vmlab_tui.base.errors import LabError
from vmlab_tui.base.text import clean_line
from vmlab_tui.base.units import size
from vmlab_tui.verbs import removing
from vmlab_tui.verbs.clean_shapes import cleaner, results_outcome
from vmlab_tui.verbs.verb import Args, Context, Outcome, Param, Preview, Verb, blocking
from vmlab_tui.verbs.words import age, local, table

if TYPE_CHECKING:
    from pydantic import JsonValue

    from vmlab_tui.images.store import Image

IMAGE = Param("image", "An image's name.", positional=True, required=True, metavar="NAME", names="image")


class ImageList(Verb):
    """Every image of the store."""

    id = "image.list"
    words = ("image", "list")
    help = "List images: sizes, age, whether the recipe has changed since"
    examples = (("vmlab image list", ""),)

    async def run(self, ctx: Context, args: Args) -> Outcome:
        from vmlab_tui.images.store import list_images

        images = await blocking(lambda: list_images(ctx.lab.store))
        fresh = {image.name: await blocking(partial(freshness, image)) for image in images}
        data: JsonValue = {
            "schema": 1,
            "store": str(ctx.lab.store.images),
            "images": [{**image_json(image), "recipe_state": fresh[image.name]} for image in images],
        }
        rows = [
            (
                image.name,
                size(image.disk_size),
                size(image.virtual_size),
                age(image.created),
                fresh[image.name],
            )
            for image in images
        ]
        lines = table(rows, head=("image", "size", "disk", "age", "recipe"))
        return Outcome(
            data, lines or (f"no images in {ctx.lab.store.images}", "  vmlab image build debian-12")
        )


class ImageShow(Verb):
    """One image and what stands on it."""

    id = "image.show"
    words = ("image", "show")
    help = "Show one image: file, digest, recipe, and which VMs stand on it"
    examples = (("vmlab image show debian-12", ""),)
    areas = ("images",)
    key = "enter"
    params = (IMAGE,)

    async def run(self, ctx: Context, args: Args) -> Outcome:
        from vmlab_tui.images.store import get_image, image_file

        image = await blocking(lambda: get_image(ctx.lab.store, args.text("image")))
        users = await users_of(ctx, image)
        rows = [
            ("file", str(image_file(ctx.lab.store, image))),
            ("format", f"{image.format}, {size(image.disk_size)} of {size(image.virtual_size)}"),
            ("sha256", image.digest),
            ("made", f"{local(image.created)} ({age(image.created)} ago)"),
            ("source", clean_line(str(image.source or "-"))),
            ("recipe", f"{image.recipe or '-'} ({await blocking(lambda: freshness(image))})"),
            ("firmware", image.firmware),
            ("proven", "booted and answered SSH" if image.proven else "not booted yet"),
            ("login", image.user or "-"),
            ("used by", ", ".join(users) or "no VM"),
        ]
        data: JsonValue = {**image_json(image), "used_by": list(users)}
        return Outcome(data, (image.name, *table(rows, indent="  ")))


class ImageRemove(Verb):
    """Move an image that nothing stands on to the trash."""

    id = "image.rm"
    words = ("image", "rm")
    help = "Move an image to the trash; refused while anything stands on it"
    long_help = """\
What stands on it is searched for as vmlab clean does: VMs, their snapshots, disks in the store and in the
watched folders, open files. Templates of the image go with it: only runs that would start from them need
them. vmlab undo brings all of it back; vmlab trash empty frees the space."""
    examples = (("vmlab image rm golden", ""),)
    areas = ("images",)
    key = "D"
    loses = True
    params = (IMAGE,)

    async def preview(self, ctx: Context, args: Args) -> Preview:
        asked = await self._ask(ctx, args)
        args.shown = asked.plan
        return removing.shown(asked.plan)

    async def run(self, ctx: Context, args: Args) -> Outcome:
        asked = await self._ask(ctx, args)
        results = await removing.carry_out(ctx, asked.adjust, args.shown or asked.plan)
        data: dict[str, JsonValue] = {"schema": 1, "removed": args.text("image")}
        return results_outcome(data, results, verb="removed", then=removing.way_back(results))

    @staticmethod
    async def _ask(ctx: Context, args: Args) -> removing.Asked:
        """The image and the templates that stand on it. Raises Refused if anything else needs it."""
        from vmlab_tui.images.store import get_image

        image = await blocking(lambda: get_image(ctx.lab.store, args.text("image")))
        async with cleaner(ctx, changes=True) as at_work:
            world = (await at_work.look()).world
        key = ("image", image.name)
        if key not in world.things:
            raise LabError(f"image {image.name} is not there any more")
        users = [edge.user for edge in world.used_by.get(key, ()) if edge.user[0] == "template"]
        asked = removing.ask(world, [world.things[one] for one in dict.fromkeys([*users, key])])
        removing.refuse_skipped(asked)
        return asked


async def users_of(ctx: Context, image: Image) -> tuple[str, ...]:
    """The VMs that stand on an image's file, by name, as far as libvirt and the leases tell."""
    from vmlab_tui.images.store import image_file
    from vmlab_tui.lab.inventory import take_inventory

    path = image_file(ctx.lab.store, image).resolve()
    async with ctx.host(readonly=True) as host:
        found = await take_inventory(ctx.lab, host)
    entry = found.image(image.name)
    # what the headers of all disks say, those of foreign VMs outside the store included
    standing = [user for user in entry.users if user.kind != "template"] if entry else []
    users = [user.name + ("" if user.own else " (foreign)") for user in standing]
    known = {user.id for user in standing}
    users += [
        vm.name
        for vm in found.vms
        if vm.uuid not in known
        and (
            (vm.domain and path in {file.resolve() for file in vm.domain.files})
            or (vm.lease and vm.lease.image == image.name)
        )
    ]
    # a directory whose lease cannot be read may hold an overlay on this image
    users += [f"{name} (its lease cannot be read)" for name, _ in found.problems]
    return tuple(users)


def freshness(image: Image) -> str:
    """Whether the image is what its recipe would make now."""
    from vmlab_tui.spec.recipe import load_recipe, recipe_hash

    if not image.recipe_hash:
        return "imported"
    try:
        recipe = load_recipe(image.recipe or image.name)
    except LabError:
        return "recipe not found"
    return "as recipe" if recipe_hash(recipe) == image.recipe_hash else "recipe changed"


def image_json(image: Image) -> dict[str, JsonValue]:
    """The image's sidecar for programs; sizes in bytes."""
    data: dict[str, JsonValue] = image.model_dump(mode="json", by_alias=True)
    return data
