"""Customers who want to be remembered."""

from services import store
from services.errors import Invalid
from services.legacy import route
from services.log import log


@route("POST", "/accounts")
def open_account(body):
    """Open an account. `body` has email and name; says how to address the customer."""
    email = body["email"].strip().lower()
    if email.count("@") != 1:
        log.warning("an address that is none")
        raise Invalid("{!r} is no address".format(body["email"]))
    if email in store.ACCOUNTS:
        raise Invalid("{} has an account already".format(email))
    store.ACCOUNTS[email] = {"email": email, "name": body["name"]}
    print("account number {}".format(len(store.ACCOUNTS)))
    return "{} <{}>".format(body["name"], email)
