"""What the doctor found: one line each, what needs somebody first.

Knows its markup. It does not know who looked, or how a finding is judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from companion.doctor.findings import Finding
from companion.ui.render.pieces import quiet
from companion.ui.texts import html_text, text

ORDER = ("error", "warning", "info", "ok")


def examination(findings: Sequence[Finding] | None) -> str:
    """The button, and what was found; None before anybody looked."""
    button = f'<button class="lc-button" data-key="examine">{html_text("doctor.examine")}</button>'
    head = f'<div class="lc-doctorhead">{quiet(text("doctor.about"))}{button}</div>'
    return head if findings is None else head + _found(findings)


def _found(findings: Sequence[Finding]) -> str:
    errors = sum(finding.state == "error" for finding in findings)
    verdict = html_text("doctor.ill", n=errors) if errors else html_text("doctor.well")
    listed = "".join(_line(each) for each in sorted(findings, key=lambda each: ORDER.index(each.state)))
    return f'<h2 role="status">{verdict}</h2><ul class="lc-findings">{listed}</ul>'


def _line(finding: Finding) -> str:
    advice = f"<small>{escape(finding.advice)}</small>" if finding.advice else ""
    return (
        f'<li class="is-{finding.state}" data-code="{escape(finding.code)}">'
        f"<b>{html_text(f'doctor.state.{finding.state}')}</b><p>{escape(finding.sentence)}{advice}</p></li>"
    )
