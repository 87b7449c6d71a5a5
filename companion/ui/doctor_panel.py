"""The doctor: everything the app needs, looked at when somebody asks.

Knows the one button. It does not know what is looked at, or what is wrong with it.
"""

from __future__ import annotations

import asyncio

import gradio as gr

from companion.app import Companion
from companion.doctor.examine import examine_running
from companion.ui.here import QUEUED, Update, html, owner_of, told
from companion.ui.render.doctor import examination


class DoctorPanel:
    def __init__(self, companion: Companion) -> None:
        self._companion = companion
        with gr.Column(elem_id="lc-doctorpane"):
            self.findings = html(examination(None), js="doctor.js", elem_id="lc-findings")

    def wire(self) -> None:
        async def examine(request: gr.Request) -> Update:
            with told():
                self._companion.people.require_admin(owner_of(request))
                index = self._companion.library.index_state
                found = await asyncio.to_thread(examine_running, self._companion.settings, index)
            return {self.findings: examination(found)}

        self.findings.examine(examine, None, self.findings, **QUEUED)
