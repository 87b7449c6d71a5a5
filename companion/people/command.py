"""The command `user`: its arguments, and how it asks for a password.

Works beside the running app, which notices within a second. It does not know what a user may do.
"""

from __future__ import annotations

import argparse
import getpass
import sys
from typing import Any

from companion.config import Settings
from companion.domain import LOCAL_OWNER
from companion.errors import InvalidInput
from companion.people.departure import delete_all_of
from companion.people.people import People
from companion.storage.store import Store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("add", "list", "remove", "password", "token"), help="what to do")
    parser.add_argument("name", nargs="?", metavar="NAME", help="of the user; all but list need it")
    parser.add_argument("--admin", action="store_true", help="add: may change what concerns the machine")
    parser.add_argument("--revoke", action="store_true", help="token: end all tokens of this user")


def run(settings: Settings, arguments: dict[str, Any]) -> int:
    """Raises InvalidInput, NotFound, Conflict; returns the exit code."""
    action, name = arguments["action"], arguments["name"]
    if name is None and action != "list":
        raise InvalidInput(f"Say whom: python -m companion user {action} NAME.")
    store = Store.open(settings.database_path)
    try:
        for line in _done(store, People(store, settings.mode), arguments, name or ""):
            sys.stdout.write(line + "\n")
    finally:
        store.close()
    return 0


def _done(store: Store, people: People, arguments: dict[str, Any], name: str) -> list[str]:
    match arguments["action"]:
        case "add":
            return [_add(people, name, admin=arguments["admin"])]
        case "list":
            return _list(people)
        case "remove":
            user = people.remove(name)
            delete_all_of(store, user.owner)
            kept = user.owner == LOCAL_OWNER
            what = "what was made without logins stays" if kept else "documents and conversations go, too"
            return [f"{user.name} is removed; {what}."]
        case "password":
            people.set_password(name, _new_password())
            return [f"The password of {name} is changed; every browser has to sign in again."]
        case _:
            return _token(people, name, revoke=arguments["revoke"])


def _add(people: People, name: str, *, admin: bool) -> str:
    user = people.add(name, _new_password(), admin=admin)
    role = "an admin" if user.admin else "a user"
    first = " and owns what was made without logins" if user.owner == LOCAL_OWNER else ""
    return f"{user.name} is {role}{first}."


def _list(people: People) -> list[str]:
    return [
        f"{user.name:20} {'admin' if user.admin else 'user':6} since {user.created_at:%Y-%m-%d}, "
        f"tokens: {people.tokens(user.name)}"
        for user in people.list()
    ]


def _token(people: People, name: str, *, revoke: bool) -> list[str]:
    if revoke:
        return [f"{people.revoke_tokens(name)} tokens of {name} are revoked."]
    return [people.new_token(name)]


def _new_password() -> str:
    """Typed twice without being seen, or the first line of what is piped in; never an argument, which
    other users of the machine could see."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    try:
        password = getpass.getpass("Password: ")
        again = getpass.getpass("Once more: ")
    except EOFError as ended:
        raise InvalidInput("No password was typed; nothing was changed.") from ended
    if again != password:
        raise InvalidInput("The two passwords are not the same; nothing was changed.")
    return password
