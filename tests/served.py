"""The HTTP door on a real port, without the page: for clients that need a real connection.

Knows how to start a server and to end it. It does not know what is served.
"""

import threading
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette

from companion.api.doors import doors
from tests.waiting import until


@contextmanager
def served(companion):
    """The address of a server over a companion."""
    app = Starlette(routes=doors(companion))
    config = uvicorn.Config(app, port=0, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="door", daemon=True)
    thread.start()
    try:
        until(lambda: server.started)
        host, port = server.servers[0].sockets[0].getsockname()
        yield f"http://{host}:{port}"
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()
