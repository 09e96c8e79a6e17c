"""The profile service."""

from services.web import delete, get, log, post, route

FIELDS = []


@route("GET", "/profile")
def every():
    """All fields."""
    print("listing fields")
    return {"fields": list(FIELDS)}


@route("POST", "/profile")
def change(field, value):
    """Take one in and say what it was."""
    line = "{} is {}".format(field, value)
    print(line)
    FIELDS.append(line)
    return line


@route("DELETE", "/profile")
def clear():
    """Forget all fields."""
    count = len(FIELDS)
    FIELDS.clear()
    print("{} fields forgotten".format(count))
    return count
