"""Every verb there is. Commands, keys, palette and help are made from this list."""

from __future__ import annotations

from vmlab_tui.verbs.adopt import Adopt
from vmlab_tui.verbs.changes import BisectStep, DiffRun
from vmlab_tui.verbs.clean import Clean
from vmlab_tui.verbs.compare import CompareRuns
from vmlab_tui.verbs.console import Console
from vmlab_tui.verbs.cp import Cp
from vmlab_tui.verbs.diagnose import Diagnose
from vmlab_tui.verbs.fork import ForkVm
from vmlab_tui.verbs.forward import Forward
from vmlab_tui.verbs.image_make import ImageAdd, ImageBuild
from vmlab_tui.verbs.images import ImageList, ImageRemove, ImageShow
from vmlab_tui.verbs.keep import Extend, Keep
from vmlab_tui.verbs.profiles import ProfileCheck, ProfileList, ProfileSchema, ProfileShow
from vmlab_tui.verbs.run import Run
from vmlab_tui.verbs.runs_control import RunsEnd, RunsResume, RunsWait
from vmlab_tui.verbs.runs_debug import (
    RunsBack,
    RunsContinue,
    RunsEdit,
    RunsKeep,
    RunsPause,
    RunsRetry,
    RunsSkip,
)
from vmlab_tui.verbs.runs_logs import RunsLogs
from vmlab_tui.verbs.runs_view import RunsList, RunsShow
from vmlab_tui.verbs.screenshot import Screenshot
from vmlab_tui.verbs.snapshot_revert import SnapshotRevert
from vmlab_tui.verbs.snapshots import SnapshotCreate, SnapshotDelete, SnapshotDescribe, SnapshotList
from vmlab_tui.verbs.ssh import Ssh
from vmlab_tui.verbs.templates import TemplateList, TemplateRemove
from vmlab_tui.verbs.trash import Remove, TrashEmpty, TrashList, Undo
from vmlab_tui.verbs.verb import Verb
from vmlab_tui.verbs.view import View
from vmlab_tui.verbs.vm_delete import Delete
from vmlab_tui.verbs.vm_power import Off, Pause, Reboot, Shutdown, Start, Unpause
from vmlab_tui.verbs.vm_show import Show
from vmlab_tui.verbs.vms import Ls

VERBS: tuple[Verb, ...] = (
    Run(),
    Ls(),
    Show(),
    Ssh(),
    Diagnose(),
    Console(),
    View(),
    Screenshot(),
    Cp(),
    Forward(),
    Start(),
    Shutdown(),
    Off(),
    Reboot(),
    Pause(),
    Unpause(),
    ForkVm(),
    Delete(),
    Keep(),
    Extend(),
    SnapshotList(),
    SnapshotCreate(),
    SnapshotDescribe(),
    SnapshotRevert(),
    SnapshotDelete(),
    RunsList(),
    RunsShow(),
    RunsLogs(),
    RunsWait(),
    RunsResume(),
    RunsPause(),
    RunsContinue(),
    RunsRetry(),
    RunsBack(),
    RunsEdit(),
    RunsSkip(),
    RunsKeep(),
    RunsEnd(),
    DiffRun(),
    CompareRuns(),
    BisectStep(),
    ImageBuild(),
    ImageAdd(),
    ImageList(),
    ImageShow(),
    ImageRemove(),
    TemplateList(),
    TemplateRemove(),
    ProfileList(),
    ProfileShow(),
    ProfileCheck(),
    ProfileSchema(),
    Clean(),
    Adopt(),
    Remove(),
    Undo(),
    TrashList(),
    TrashEmpty(),
)

GROUPS: dict[str, str] = {
    "snapshot": "Mark moments of a VM and go back to them",
    "runs": "Look at runs, go on with them, end them",
    "image": "Build, import and look at base images",
    "template": "Clean boots that runs start from: a cache",
    "profile": "Find, check and write profiles",
    "trash": "Look at what was removed, and delete it for good",
}
"""The first words that several verbs share, with their help."""


_BY_ID = {verb.id: verb for verb in VERBS}


def by_id(ident: str) -> Verb:
    """The verb with this id. Raises KeyError."""
    return _BY_ID[ident]
