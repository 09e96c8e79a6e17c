"""Journeyman's runtime: specialists' instances over one repository. The public names; `runtime/README.md` tells how it works."""

from .core.task import Codemod, Plan, Rewrite, Specialist, Task
from .engine import Runtime
from .errors import GiveUp, JourneymanError, TaskFailed
from .handles import Notice, Ticket
from .report import RunReport, TaskReport
from .workspace import Brief, Workspace

__all__ = [
    "Brief",
    "Codemod",
    "GiveUp",
    "JourneymanError",
    "Notice",
    "Plan",
    "Rewrite",
    "RunReport",
    "Runtime",
    "Specialist",
    "Task",
    "TaskFailed",
    "TaskReport",
    "Ticket",
    "Workspace",
]
