"""``vmlab ssh``: a terminal in a VM, or one command in it."""

from __future__ import annotations

from vmlab_tui.base.errors import LabError
from vmlab_tui.verbs.verb import Args, Context, Outcome, Param, Verb, blocking
from vmlab_tui.verbs.vm_target import find_vm, own_vms


class Ssh(Verb):
    """Hand the terminal to OpenSSH, which knows the VM by its pinned host key."""

    id = "ssh"
    words = ("ssh",)
    help = "Open a shell in a VM, or run one command there"
    long_help = """\
The VM is named by itself (its name or uuid) or by its run (id, beginning of an id, 'last'). The
terminal is handed to OpenSSH with the lab's own key, the VM's own pinned host key, and nothing of
your ~/.ssh configuration, agent or forwardings.

The exit code is the command's own; 255 means that SSH itself failed."""
    examples = (
        ("vmlab ssh last", "a shell in the newest run's VM"),
        ("vmlab ssh last -- systemctl status web", "one command"),
        ("vmlab ssh last -- 'cd /srv; ls | wc -l'", "one word is a line for the guest's shell"),
        ("vmlab ssh web-7f3a -- sudo -i", "a shell as root, by the VM's name"),
    )
    areas = ("lab", "runs")
    key = "s"
    json = ""
    params = (
        Param(
            "target",
            "A run (id, beginning of it, 'last') or a VM (name, uuid).",
            positional=True,
            required=True,
            metavar="RUN|VM",
            names="vm",
        ),
        Param(
            "command",
            "A command for the guest's shell instead of a terminal.",
            rest=True,
            metavar="[-- CMD]...",
        ),
    )

    async def run(self, ctx: Context, args: Args) -> Outcome:
        from vmlab_tui.guests.terminal import ssh_argv, write_known_hosts
        from vmlab_tui.hosts.model import Power
        from vmlab_tui.runs import client

        uuid = (await blocking(lambda: find_vm(ctx.lab, own_vms(ctx.lab), args.text("target")))).uuid
        endpoint = await blocking(lambda: client.endpoint_of(ctx.lab, uuid))
        known_hosts = ctx.lab.store.vm(uuid) / "known_hosts"
        async with ctx.host(readonly=True) as host:
            if await host.domain(uuid) is None:
                raise LabError(f"VM {endpoint.label} has no domain: it is gone", hint="vmlab runs list")
            power = await host.power(uuid)
        if power is Power.PAUSED:
            raise LabError(
                f"VM {endpoint.label} is paused: nothing in it answers",
                hint=f"vmlab unpause {endpoint.label}   # then once more",
            )
        if power in (Power.OFF, Power.CRASHED):
            raise LabError(
                f"VM {endpoint.label} is {power.value}",
                hint=f"vmlab start {endpoint.label}   # then once more",
            )
        await blocking(lambda: write_known_hosts(endpoint, known_hosts))
        command = list(args.many("command")) or None
        argv = ssh_argv(endpoint, command, known_hosts, tty=ctx.front.on_terminal)
        return Outcome(exit=await ctx.front.terminal(argv))
