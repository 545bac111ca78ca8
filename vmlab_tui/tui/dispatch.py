"""From a verb and what it acts on to a result on the screen: ask, confirm, do, tell."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from vmlab_tui.base.errors import Interrupted, LabError
from vmlab_tui.base.text import clean, clean_line
from vmlab_tui.tui.front import Activity, ScreenFront
from vmlab_tui.tui.selection import Target, takes_several, values

if TYPE_CHECKING:
    from vmlab_tui.tui.app import LabApp
    from vmlab_tui.verbs.verb import Args, Context, Outcome, Verb

_TOAST = 3
"""Lines of a result that fit a notification; longer ones get a screen."""


async def perform(
    app: LabApp, verb: Verb, targets: Sequence[Target] = (), given: Mapping[str, object] | None = None
) -> Outcome | None:
    """Do ``verb`` to ``targets``, which were taken when the key was pressed.

    Asks for what the verb wants to be asked for, and before anything is lost. ``given``: arguments that are
    known already. Returns the outcome, or None when it failed or was called off; both are shown.
    """
    from vmlab_tui.verbs.verb import Args

    given = dict(given or {})
    asked = [param for param in verb.params if param.name in verb.asks and param.name not in given]
    if asked:
        from vmlab_tui.tui.screens.dialogs import FormDialog

        answers = await app.push_screen_wait(FormDialog(_title(verb, targets), asked))
        if answers is None:
            return None
        given |= answers
    groups = [list(targets)] if takes_several(verb) or not targets else [[one] for one in targets]
    calls = [Args({**values(verb, group), **given}) for group in groups]
    activity = Activity(_title(verb, targets))
    ctx = app.hub.context(ScreenFront(app, app.backend, activity))
    outcome: Outcome | None = None
    app.activity_begins(activity)
    try:
        if (verb.loses or verb.confirms) and not await _confirmed(app, verb, ctx, calls):
            return None
        for args in calls:
            work = app.backend.submit(verb.run(ctx, args))
            activity.cancel = work.cancel
            outcome = await asyncio.wrap_future(work)
    except Interrupted as error:
        app.tell(clean_line(error.message))
    except LabError as error:
        app.show_error(clean(error.message), clean(error.hint))
    except asyncio.CancelledError:
        app.tell(f"{activity.title}: cancelled")
    except Exception as error:
        app.show_error(
            f"{activity.title}: {type(error).__name__}: {clean(str(error))}", traceback.format_exc()
        )
    finally:
        activity.over = True
        app.activity_ends(activity)
        app.hub.refresh_soon()
    if outcome:
        _show(app, activity, outcome)
    return outcome


def _title(verb: Verb, targets: Sequence[Target]) -> str:
    names = ", ".join(target.label for target in targets[:3])
    more = f" and {len(targets) - 3} more" if len(targets) > 3 else ""
    return f"{' '.join(verb.words)} {names}{more}".strip()


async def _confirmed(app: LabApp, verb: Verb, ctx: Context, calls: Sequence[Args]) -> bool:
    lines: list[str] = []
    loses: list[str] = []
    for args in calls:
        preview = await app.backend.call(verb.preview(ctx, args))
        lines += preview.lines
        loses += preview.loses
    if not loses and not verb.loses:
        return True  # in this case there is nothing to heed
    return await app.ask("\n".join(lines) or verb.help, loses)


def _show(app: LabApp, activity: Activity, outcome: Outcome) -> None:
    """Short results as a notification, long ones on a screen of their own."""
    text = "".join(activity.written)
    lines = [*text.splitlines(), *outcome.lines]
    if len(lines) > _TOAST:
        app.show_text(activity.title, lines)
    elif lines:
        app.tell("\n".join(lines), bad=bool(outcome.exit))
