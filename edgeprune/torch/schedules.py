"""The schedules by name."""

from __future__ import annotations

from edgeprune.errors import EdgepruneError, nearest
from edgeprune.torch.acdc import ACDC
from edgeprune.torch.erk_random import ERKRandom
from edgeprune.torch.gradual import Gradual
from edgeprune.torch.grasp import GraSP
from edgeprune.torch.group_lasso import GroupLasso
from edgeprune.torch.one_shot import OneShot
from edgeprune.torch.rigl import RigL
from edgeprune.torch.schedule import Schedule
from edgeprune.torch.snip import SNIP
from edgeprune.torch.sr_ste import SRSTE
from edgeprune.torch.synflow import SynFlow

SCHEDULES: dict[str, type[Schedule]] = {
    schedule.name: schedule
    for schedule in (OneShot, Gradual, ACDC, SRSTE, RigL, GroupLasso, SNIP, GraSP, SynFlow, ERKRandom)
}


def schedule_named(name: str) -> Schedule:
    """The schedule `name` with its default options; raises EdgepruneError (schedule-unknown) where there is none."""
    if name not in SCHEDULES:
        raise EdgepruneError(
            "schedule-unknown",
            f"'{name}' is not a schedule",
            where="schedule",
            hint=nearest(name, SCHEDULES),
            exit_code=2,
        )
    return SCHEDULES[name]()
