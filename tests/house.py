"""An app that several people use: the real server, with Ada, who is an admin, and Bob, who is not.

Knows how they come in. It does not know what they do there.
"""

from contextlib import contextmanager

import httpx

from companion.app import build
from companion.config import Settings
from tests.browser import free_port, serving_page
from tests.fakes import MODEL, THINKER, TINY, FakeEmbedder, ScriptedEngine

PASSWORDS = {"ada": "correct horse", "bob": "battery staple"}


class House:
    def __init__(self, url, demo, companion, ollama):
        self.url = url
        self.demo = demo
        self.companion = companion
        self.ollama = ollama
        self._clients = []

    def client(self, **options):
        """Somebody whom nobody knows."""
        self._clients.append(httpx.Client(base_url=self.url, timeout=30, trust_env=False, **options))
        return self._clients[-1]

    def browser_of(self, name):
        """Signed in, as on the page."""
        client = self.client()
        answer = client.post("/login", data={"name": name, "password": PASSWORDS[name]})
        assert answer.status_code == 303, answer.text
        return client

    def program_of(self, name):
        """With a token."""
        token = self.companion.people.new_token(name)
        return self.client(headers={"Authorization": f"Bearer {token}"})

    def visitor(self, secret):
        return self.client(headers={"X-Companion-Visitor": secret})

    def demo_app(self):
        """Gradio's app, with all routes of the server."""
        return self.demo.app

    def owner(self, name):
        return next(user.owner for user in self.companion.people.list() if user.name == name)

    def leave(self):
        for client in self._clients:
            client.close()


@contextmanager
def house(folder, **settings):
    """`settings` say who is let in; users are there where they are needed."""
    chosen = Settings(**{"data_dir": folder, "port": free_port(), "offline": True, **settings})
    ollama = ScriptedEngine(models=[MODEL, THINKER])
    tiny = ScriptedEngine(models=[TINY], name="builtin")
    companion = build(chosen, engines=[ollama, tiny], light=FakeEmbedder())
    if chosen.mode == "shared":
        for name, password in PASSWORDS.items():
            companion.people.add(name, password)
    with serving_page(companion, chosen) as (url, demo):
        found = House(url, demo, companion, ollama)
        try:
            yield found
        finally:
            found.leave()
