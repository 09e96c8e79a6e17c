"""What customers think of a product."""

from services import store
from services.errors import Invalid, NotFound
from services.legacy import route
from services.log import log


@route("GET", "/products/{sku}/reviews")
def list_reviews(sku):
    """All reviews of a product with the mean of their stars."""
    reviews = store.REVIEWS.get(sku, [])
    mean = sum(review["stars"] for review in reviews) / len(reviews) if reviews else 0
    return {"reviews": reviews, "mean": "{:.1f}".format(mean), "stars": "*" * round(mean)}


@route("POST", "/products/{sku}/reviews")
def add_review(sku, body):
    """Add a review: 1 to 5 stars and a few words."""
    if sku not in store.PRODUCTS:
        raise NotFound("there is no product {}".format(sku))
    if not 1 <= body["stars"] <= 5:
        raise Invalid("{} is no number of stars".format(body["stars"]))
    store.REVIEWS.setdefault(sku, []).append(dict(body))
    if body["stars"] == 1:
        log.warning("an unhappy customer")
    print("{} stars for {}".format(body["stars"], sku))
    return len(store.REVIEWS[sku])
