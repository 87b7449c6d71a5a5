"""Every route of an app, also of the routers and apps within it.

Knows FastAPI's and Starlette's trees. It does not know what a route answers.
"""

import re


def routes_of(app, before=""):
    """(method, path) with `{name}` where something goes."""
    found = set()
    for route in app.routes:
        inner = getattr(route, "original_router", None) or getattr(route, "app", None)
        methods = getattr(route, "methods", None) or ()
        if methods:
            path = re.sub(r"\{(\w+)(:\w+)?\}", r"{\1}", route.path)
            found |= {(method, before + path) for method in methods}
        elif hasattr(inner, "routes"):
            found |= routes_of(inner, before + (getattr(route, "path", None) or "").rstrip("/"))
    return found


def filled(path, value="x"):
    return re.sub(r"\{\w+\}", value, path)
