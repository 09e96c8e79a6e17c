"""Deprecated: the router of the first version. Use `services.router`.

It keeps a table of its own, so the new router does not see what is registered here. Nothing but the migration should
still import this file; the last task deletes it.
"""

from services import router

OLD_ENDPOINTS = {}  # {(method, path): function}


def route(method, path):
    """Deprecated: use `router.get`, `post`, `put` or `delete`."""

    def register(function):
        OLD_ENDPOINTS[method, path] = function
        return function

    return register


def call(method, path, body=None):
    """Deprecated: use `router.handle`, or `tests.client` in a test. Looks in both tables."""
    return router.ask({**OLD_ENDPOINTS, **router.ENDPOINTS}, method, path, body)
