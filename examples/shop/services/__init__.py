"""The shop's services. A request comes in by `router.handle`; what it changes is in `store`."""
