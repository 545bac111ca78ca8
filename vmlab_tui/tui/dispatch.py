"""From a verb and what it acts on to a result on the screen: ask, confirm, do, tell."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from vmlab_tui.base.errors import Interrupted, LabError
from vmlab_tui.base.text import clean, clean_line
from vmlab_tui.tui.front import Activity, ScreenFront
from vmlab_tui.tui.selection import Target, subject, takes_several, values

if TYPE_CHECKING:
    from vmlab_tui.tui.app import LabApp
    from vmlab_tui.verbs.verb import Args, Context, Outcome, Verb

FILES = ("profile", "recipe")
"""What verbs act on that is no thing in the lab but a file: it is picked, never pointed at."""

_TOAST = 3
"""Lines of a result that fit a notification; longer ones get a screen."""


async def perform(
    app: LabApp,
    verb: Verb,
    targets: Sequence[Target] = (),
    given: Mapping[str, object] | None = None,
    typed: Mapping[str, str] | None = None,
) -> Outcome | None:
    """Do ``verb`` to ``targets``, which were taken when the key was pressed.

    Asks for what the verb wants to be asked for, and before anything is lost. ``given``: arguments that are
    known already; ``typed``: variables of a run, see `Args.typed`. A new run has a screen that asks, a VM's
    picture one that shows it.
    Returns the outcome, or None when it failed or was called off; both are shown.
    """
    from vmlab_tui.verbs.verb import Args

    given = dict(given or {})
    if verb.id == "run" and "profile" not in given:
        from vmlab_tui.tui.screens.newrun import NewRunScreen

        app.push_screen(NewRunScreen())
        return None
    param = subject(verb)
    if param is None or param.names in FILES:
        targets = ()  # a file's name, or nothing: what the cursor stands on is something else
    if param and param.required and not targets and param.name not in given:
        from vmlab_tui.tui.screens.pick import choose

        chosen = await choose(app, verb)
        if chosen is None:
            return None
        if param.names in FILES:
            given[param.name] = chosen.ref
        else:
            targets = (chosen,)
    if verb.id == "vm.screenshot" and targets and not given:
        from vmlab_tui.tui.screens.display import DisplayScreen

        app.push_screen(DisplayScreen(targets[0]))
        return None
    if verb.picks and targets and targets[0].kind == "vm" and param and param.name not in given:
        from vmlab_tui.tui.screens.pick import choose_snapshot

        if len(targets) > 1:
            app.tell(f"{' '.join(verb.words)}: one VM at a time", bad=True)
            return None
        if app.hub.inventory and (vm := app.hub.inventory.vm(targets[0].ref)) and vm.snapshots:
            picked = await choose_snapshot(app, verb, vm)
            if picked is None:
                return None
            targets = (picked,)
        # without any, the verb says why there is none
    asked = [param for param in verb.params if param.name in verb.asks and param.name not in given]
    answers: dict[str, object] = {}
    problem = ("", "")
    if asked:
        try:
            answers.update(await _known(app, verb, Args({**values(verb, targets), **given}, typed)))
        except LabError as error:
            app.show_error(clean(error.message), clean(error.hint))
            return None
    while True:
        if asked:
            from vmlab_tui.tui.screens.dialogs import FormDialog

            form = FormDialog(_title(verb, targets, given), asked, answers, "\n".join(filter(None, problem)))
            filled = await app.push_screen_wait(form)
            if filled is None:
                return None
            answers = filled
        groups = [list(targets)] if takes_several(verb) or not targets else [[one] for one in targets]
        calls = [Args({**values(verb, group), **given, **answers}, typed) for group in groups]
        outcome, activity = await _carry_out(app, verb, _title(verb, targets, given), calls)
        if outcome:
            _show(app, activity, outcome)
            return outcome
        problem = activity.problem
        if not asked or activity.state != "failed":
            break  # else what was typed stays, and is asked for again
    if activity.state == "failed" and not app.watches(activity):
        app.show_error(*problem)
    return None


async def _carry_out(
    app: LabApp, verb: Verb, title: str, calls: Sequence[Args]
) -> tuple[Outcome | None, Activity]:
    """Confirm and do it. The activity's state and problem say why there is no outcome."""
    activity = Activity(title)
    ctx = app.hub.context(ScreenFront(app, app.backend, activity))
    outcome: Outcome | None = None
    state = "failed"

    async def work(args: Args) -> Outcome:
        # the task itself: it is over only when what it began has been cleared away
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        activity.cancel = lambda: loop.call_soon_threadsafe(task.cancel) if task else None
        return await verb.run(ctx, args)

    app.activity_begins(activity, long=verb.long)
    try:
        agreed: Sequence[Args] | None = calls
        if verb.loses or verb.confirms:
            agreed = await _confirmed(app, verb, ctx, calls)
        if agreed is None:
            state = "cancelled"
            return None, activity
        for args in agreed:
            outcome = await app.backend.call(work(args))
        state = "done"
    except Interrupted as error:
        state = "cancelled"
        app.tell(clean_line(error.message))
    except LabError as error:
        activity.problem = clean(error.message), clean(error.hint)
    except asyncio.CancelledError:
        state = "cancelled"
        if not app.watches(activity):
            app.tell(f"{activity.title}: cancelled")
    except Exception as error:
        activity.problem = (
            f"{activity.title}: {type(error).__name__}: {clean(str(error))}",
            traceback.format_exc(),
        )
    finally:
        activity.end(state)
        app.activity_ends(activity)
        app.hub.refresh_soon()
    return outcome, activity


def _title(verb: Verb, targets: Sequence[Target], given: Mapping[str, object]) -> str:
    param = subject(verb)
    named = [clean_line(str(given[param.name]), 60)] if param and given.get(param.name) else []
    names = ", ".join([target.label for target in targets[:3]] or named)
    more = f" and {len(targets) - 3} more" if len(targets) > 3 else ""
    return f"{' '.join(verb.words)} {names}{more}".strip()


async def _known(app: LabApp, verb: Verb, args: Args) -> Mapping[str, object]:
    """What the form shows before anybody has typed into it."""
    ctx = app.hub.context(ScreenFront(app, app.backend, Activity(verb.id)))
    return await app.backend.call(verb.known(ctx, args))


async def _confirmed(app: LabApp, verb: Verb, ctx: Context, calls: Sequence[Args]) -> Sequence[Args] | None:
    """The calls that a person has agreed to, with what was chosen while being asked; None: no."""
    shown: list[Args] = []
    heads: set[str] = set()

    async def look(chosen: Mapping[str, object]) -> tuple[str, list[str]]:
        shown[:] = [args.plus(chosen) for args in calls]
        lines: list[str] = []
        loses: list[str] = []
        for args in shown:
            preview = await app.backend.call(verb.preview(ctx, args))
            lines += preview.lines
            loses += preview.loses
            heads.add(preview.head)
        return "\n".join(lines) or verb.help, loses

    question, loses = await look({})
    if not loses and not verb.loses:
        return shown  # in this case there is nothing to heed
    params = {param.name: param for param in verb.params}
    options = [(key, params[name]) for key, name in verb.options]
    head = heads.pop() if len(heads) == 1 else ""
    return shown if await app.ask(question, loses, options, look, head) else None


def _show(app: LabApp, activity: Activity, outcome: Outcome) -> None:
    """Short results as a notification, long ones on a screen of their own."""
    text = "".join(activity.written)
    lines = [*text.splitlines(), *outcome.lines]
    if len(lines) > _TOAST:
        app.show_text(activity.title, lines)
    elif lines:
        app.tell("\n".join(lines), bad=bool(outcome.exit))
