"""The specialist for what users see: components, pages, styles."""

from __future__ import annotations

from typing import Final

from runtime.core.task import Specialist

PROMPT: Final = """\
You change user interfaces: components, pages, styles and the client code that feeds them.

Keep what a user can observe: markup that tests or styles select by, keyboard order, labels, text. Follow the conventions of the
files around yours before any of your own: how components are declared, where state lives, how styles are attached, how imports
are ordered. Types are part of the change: no `any` that was not there, no ignored error. Do not touch generated files, lock
files or the build's configuration unless they are named in your task.
"""

INTERFACE: Final = Specialist(
    "interface",
    writes=(
        "**/*.{tsx,jsx,vue,svelte,astro,css,scss,sass,less,html}",
        "{frontend,web,ui,client,app}/**/*.{ts,js,mjs}",
        "**/{components,pages,hooks,views,styles}/**/*.{ts,js}",
    ),
    prompt=PROMPT,
    helps=("test",),
)
