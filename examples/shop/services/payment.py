"""The payment service."""

from services.web import delete, get, log, post, route

PAYMENTS = []


@route("GET", "/payment")
def every():
    """All payments."""
    print("listing payments")
    return {"payments": list(PAYMENTS)}


@route("POST", "/payment")
def charge(card, amount):
    """Take one in and say what it was."""
    line = "{} on card {}".format(amount, card)
    print(line)
    PAYMENTS.append(line)
    return line


@route("DELETE", "/payment")
def clear():
    """Forget all payments."""
    count = len(PAYMENTS)
    PAYMENTS.clear()
    print("{} payments forgotten".format(count))
    return count
