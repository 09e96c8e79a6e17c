"""Which function answers which request.

A path may have parameters, `/carts/{cart}`; they become keyword arguments of the function, and the body of a request
becomes the argument `body`.
"""

from services.errors import NotFound

ENDPOINTS = {}  # {(method, path): function}


def get(path):
    """Answer GET requests to a path."""
    return _answer("GET", path)


def post(path):
    """Answer POST requests to a path."""
    return _answer("POST", path)


def put(path):
    """Answer PUT requests to a path."""
    return _answer("PUT", path)


def delete(path):
    """Answer DELETE requests to a path."""
    return _answer("DELETE", path)


def handle(method, path, body=None):
    """What the shop says to a request. Raises NotFound when nothing answers it."""
    return ask(ENDPOINTS, method, path, body)


def ask(endpoints, method, path, body):
    """Find the endpoint among `endpoints` and call it."""
    for (known, pattern), function in endpoints.items():
        values = match(pattern, path) if known == method else None
        if values is not None:
            return function(**values) if body is None else function(**values, body=body)
    raise NotFound(f"nothing answers {method} {path}")


def match(pattern, path):
    """The values of the parameters when the path fits the pattern, else None."""
    wanted, given = pattern.strip("/").split("/"), path.strip("/").split("/")
    if len(wanted) != len(given):
        return None
    values = {}
    for want, have in zip(wanted, given):
        if want.startswith("{"):
            values[want.strip("{}")] = have
        elif want != have:
            return None
    return values


def _answer(method, path):
    def register(function):
        ENDPOINTS[method, path] = function
        return function

    return register
