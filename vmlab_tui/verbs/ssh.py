"""``vmlab ssh``: a terminal in a VM, or one command in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmlab_tui.base.errors import UsageError
from vmlab_tui.verbs.verb import Args, Context, Kind, Outcome, Param, Verb, blocking
from vmlab_tui.verbs.vm_target import reach

if TYPE_CHECKING:
    from vmlab_tui.guests.endpoint import Endpoint
    from vmlab_tui.runs.client import RunView
    from vmlab_tui.runs.here import Here


class Ssh(Verb):
    """Hand the terminal to OpenSSH, which knows the VM by its pinned host key."""

    id = "ssh"
    words = ("ssh",)
    help = "Open a shell in a VM, or run one command there"
    long_help = """\
The VM is named by itself (its name or uuid) or by its run (id, beginning of an id, 'last'). The
terminal is handed to OpenSSH with the lab's own key, the VM's own pinned host key, and nothing of
your ~/.ssh configuration, agent or forwardings.

With --here the shell is where the run's script step failed: the same user, folder and environment,
the command that failed as the last of its history (where the shell tells it: bash does), and the
run's secrets while the run is live. A command is then run in that environment.

The exit code is the command's own; 255 means that SSH itself failed."""
    examples = (
        ("vmlab ssh last", "a shell in the newest run's VM"),
        ("vmlab ssh last --here", "a shell where its step failed"),
        ("vmlab ssh last --here -- env", "one command in that step's environment"),
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
        Param("here", "Where the run's script step ended, with its environment.", Kind.FLAG),
        Param(
            "command",
            "A command for the guest's shell instead of a terminal.",
            rest=True,
            metavar="[-- CMD]...",
        ),
    )

    async def run(self, ctx: Context, args: Args) -> Outcome:
        from vmlab_tui.guests.terminal import ssh_argv, write_known_hosts
        from vmlab_tui.runs.vmcontrol import visit

        view: RunView | None = None
        here: Here | None = None
        vm, endpoint = await reach(ctx, args.text("target"))
        if args.flag("here"):
            view, here = await blocking(lambda: _where(ctx, vm.uuid))
        known_hosts = ctx.lab.store.vm(vm.uuid) / "known_hosts"
        await blocking(lambda: write_known_hosts(endpoint, known_hosts))
        command = list(args.many("command"))
        # a shell there is a command to SSH, and wants a terminal of its own
        tty = ctx.front.on_terminal
        if view and here:
            command = await _here(ctx, endpoint, view, here, tuple(command))
        argv = ssh_argv(endpoint, command or None, known_hosts, tty=tty)
        await visit(ctx.lab, vm, "somebody was in its guest by ssh")
        return Outcome(exit=await ctx.front.terminal(argv))


def _where(ctx: Context, uuid: str) -> tuple[RunView, Here]:
    """The run of a VM and where it stands. Raises UsageError when that is at no script step."""
    from vmlab_tui.lab.leases import read_lease
    from vmlab_tui.runs import client
    from vmlab_tui.runs.here import here_of

    lease = read_lease(ctx.lab.store.vm(uuid))
    view = client.get_run(ctx.lab, lease.run_id)
    if here := here_of(view):
        return view, here
    raise UsageError(
        f"run {view.run_id} ({view.status}) stands at no script step that failed",
        hint=f"without --here: vmlab ssh {view.run_id}",
    )


async def _here(
    ctx: Context, endpoint: Endpoint, view: RunView, here: Here, command: tuple[str, ...]
) -> list[str]:
    from vmlab_tui.guests.ssh import connect
    from vmlab_tui.runs.here import command_here

    ctx.front.status(f"{endpoint.label}: looking where {here.where}")
    async with connect(endpoint) as guest:
        line, missing = await command_here(guest, view, here, command)
    if missing and command:
        ctx.front.say(missing)  # a shell says it itself
    return line
