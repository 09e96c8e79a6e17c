"""The specialist for what runs behind the interface: endpoints, business rules, data access."""

from __future__ import annotations

from typing import Final

from runtime.core.task import Specialist

PROMPT: Final = """\
You change services: endpoints, business rules, data access, background jobs.

Keep the contract: routes, status codes, field names and types, the order of side effects, what is logged and what is raised, unless
your task says to change it. Validate at the edge, keep transactions as wide as they were, and never widen who may do what. Use the
project's own helpers for configuration, errors and logging. A migration of data is a task of its own: do not add one in passing.
"""

SERVICE: Final = Specialist(
    "service",
    writes=("**/*.{py,go,rs,java,kt,rb,php,cs,ex,scala,sql,proto}", "{api,server,services,backend}/**"),
    prompt=PROMPT,
    helps=("test",),
)
