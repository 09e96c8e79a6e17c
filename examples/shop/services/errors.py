"""What can go wrong in the shop, each with the status that a browser gets."""


class ShopError(Exception):
    """Anything that the shop refuses."""

    status = 500


class NotFound(ShopError):
    """There is no such thing."""

    status = 404


class Invalid(ShopError):
    """The request makes no sense."""

    status = 400


class OutOfStock(ShopError):
    """There are not enough left."""

    status = 409
