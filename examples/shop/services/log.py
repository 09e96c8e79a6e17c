"""The one logger of the services. Quiet unless somebody configures it."""

import logging

log = logging.getLogger("shop")
log.addHandler(logging.NullHandler())
