"""The runtime as a service: many repositories, many runs, many clients, on one loop.

places      where its socket, token and lists are            queue, gate   which run is next, which attempt is next
submission  what a client hands over                         served, host  one repository's runs; all of them
problems    errors as HTTP tells them                        guard, links  who may ask at all
routes      REST; `events` streams, `openapi` describes      listening     sockets, slow clients
client      the other side, for the command line             daemon        the process: start, signals, the end
"""
