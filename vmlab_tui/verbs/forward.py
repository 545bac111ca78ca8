"""``vmlab forward``: a guest's port on this machine's loopback, for as long as it runs."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack

from vmlab_tui.base.errors import LabError, UsageError
from vmlab_tui.base.text import clean
from vmlab_tui.verbs.verb import Args, Context, Outcome, Param, Verb
from vmlab_tui.verbs.vm_target import VM, reach

_TLS = (443, 6443, 8443)


class Forward(Verb):
    """Through SSH: a guest without any way out is reached as well."""

    id = "forward"
    words = ("forward",)
    help = "Reach a port of a VM from here, until Ctrl-C"
    long_help = """\
Connections to a port on 127.0.0.1 are led through SSH to the port in the guest, which need not have
a network for it. Nobody but this machine reaches it. The local port is a free one unless --to names
it. What the profile lists under ports: is forwarded for the VM's whole life, without this.

With --json it prints one line when it is ready, and goes on."""
    examples = (
        ("vmlab forward last 8080", "its address here is printed"),
        ("vmlab forward last 80 5432", "several at once"),
        ("vmlab forward web-7f3a 80 --to 8080", "from a port of your choice"),
    )
    params = (
        VM,
        Param(
            "port", "Ports in the guest.", positional=True, required=True, multiple=True, metavar="PORT..."
        ),
        Param("to", "The port here (with one PORT).", metavar="LOCALPORT"),
    )

    async def run(self, ctx: Context, args: Args) -> Outcome:
        import asyncio

        from vmlab_tui.guests.forward import forward
        from vmlab_tui.guests.ssh import connect

        ports = [_port(word) for word in args.many("port")]
        local = _port(args.text("to")) if args.optional("to") else 0
        if local and len(ports) > 1:
            raise UsageError("--to is for one port; several get free ones")
        vm, endpoint = await reach(ctx, args.text("vm"))

        def problem(error: LabError) -> None:
            ctx.front.say(clean(error.message))

        async with connect(endpoint) as guest, AsyncExitStack() as stack:
            led = [
                (port, await stack.enter_async_context(forward(guest, port, local, problem)))
                for port in ports
            ]
            if ctx.wants_data:
                entries = [{"port": port, "local": here, "url": _url(port, here)} for port, here in led]
                data = {"schema": 1, "verb": "forward", "vm": vm.name, "uuid": vm.uuid, "ports": entries}
                ctx.front.write(json.dumps(data) + "\n")
            for port, here in led:
                ctx.front.say(f"{_url(port, here)}  ->  {endpoint.label} port {port}")
            for one in vm.lease.ports if vm.lease else ():
                if one.guest_port in ports:
                    there = f"127.0.0.1:{one.host_port}"
                    ctx.front.say(f"  port {one.guest_port} is at {there} anyhow, as long as the VM is there")
            ctx.front.say("  Ctrl-C ends it")
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return Outcome()  # Ctrl-C: the way to end it
        raise AssertionError("unreachable")


def _port(word: str) -> int:
    if word.isascii() and word.isdigit() and 0 < int(word) < 65536:
        return int(word)
    raise UsageError(f"'{word}' is no port", hint="a number from 1 to 65535")


def _url(port: int, here: int) -> str:
    return f"{'https' if port in _TLS else 'http'}://127.0.0.1:{here}"
