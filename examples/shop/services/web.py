"""A router of a few lines: what the services register their endpoints with."""

import logging

log = logging.getLogger("shop")
ROUTES = {}


def route(method, path):
    """Deprecated: use `get`, `post` or `delete`."""

    def register(function):
        ROUTES[method, path] = function
        return function

    return register


def get(path):
    """Answer GET requests."""
    return route("GET", path)


def post(path):
    """Answer POST requests."""
    return route("POST", path)


def delete(path):
    """Answer DELETE requests."""
    return route("DELETE", path)
