"""The runtime as a service: many repositories, many runs, many clients, on one loop.

places        where its socket, token and lists are           queue, gate   which run is next, which attempt is next
problems      errors as HTTP tells them                       served, host  one repository's runs; all of them
guard, links  who may ask at all                              live          what is known of a run that waits or goes on
routes        REST; `stream` its events, `openapi` describes  listening     sockets, slow clients; `plain` the short way
reading, kept what a submission says; what is kept of it      documents     what is answered, as JSON's values
together      one reading for all who ask at once             metrics       Prometheus' text
trees         which of a repository's work trees a run is of  elsewhere     a run that another process performs
client        the other side, for the command line            daemon        the process: start, signals, the end
later         what is loaded when it is first asked for       units         what systemd and launchd need
answers       the shapes of all that, for OpenAPI
memory        heaps, when garbage is looked for, what is given back
"""
