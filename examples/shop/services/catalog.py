"""Products: what they are called and what they cost."""

from services import store
from services.errors import Invalid, NotFound
from services.legacy import route
from services.log import log
from services.money import euros


@route("GET", "/products")
def list_products():
    """All products, by title."""
    return sorted(store.PRODUCTS.values(), key=lambda product: product["title"])


@route("GET", "/products/{sku}")
def show_product(sku):
    """One product with its price in words."""
    product = store.PRODUCTS.get(sku)
    if product is None:
        log.warning("somebody asked for a product that is not there")
        raise NotFound("there is no product {}".format(sku))
    return {**product, "price": euros(product["cents"])}


@route("POST", "/products")
def add_product(body):
    """Put a new product on the shelves. `body` has sku, title and cents."""
    if body["cents"] <= 0:
        raise Invalid("{} for {} is no price".format(body["cents"], body["sku"]))
    store.PRODUCTS[body["sku"]] = dict(body)
    store.STOCK.setdefault(body["sku"], 0)
    print("new product {sku} at {price}".format(sku=body["sku"], price=euros(body["cents"])))
    return body["sku"]
