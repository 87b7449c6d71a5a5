"""How the app is: the pill of the header, and the notice of the moment.

Knows their markup. It does not know who found out, or what an action does.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from companion.conditions import Action, Condition
from companion.ui.render.pieces import coded, icon
from companion.ui.texts import html_text

ADVICE = frozenset(
    "first_run empty_library no_ollama ollama_without_models model_vanished failed_documents"
    " embedder_missing embedder_change english_embedder many_pages".split()
)
"""What a person may wave aside: the app goes on without it."""


def pill(state: str, conditions: Sequence[Condition]) -> str:
    """The state of the app in a word, and behind it everything that holds, with what to do."""
    word = html_text(f"pill.{state}")
    name = html_text("pill.more", state=word)
    said = "".join(_listed(each) for each in conditions)
    body = f"<ul>{said}</ul>" if said else f"<p>{html_text('pill.all_well')}</p>"
    return (
        f'<button class="lc-pill is-{state}" aria-label="{name}" aria-expanded="false" '
        f'aria-controls="lc-states" title="{name}"><i></i><b>{word}</b></button>'
        f'<div class="lc-states" id="lc-states" role="dialog" aria-label="{html_text("pill.title")}" hidden>'
        f"{body}</div>"
    )


def banner(conditions: Sequence[Condition]) -> str:
    """All that is worth a notice, the most important first; the page shows the first not waved aside."""
    return "".join(notice(each, " hidden") for each in conditions)


def notice(condition: Condition, hidden: str = "") -> str:
    """One sentence and one action."""
    put_off = ""
    if condition.code in ADVICE:
        name = html_text("notice.put_off")
        put_off = f'<button class="lc-putoff" title="{name}" aria-label="{name}">{icon("close")}</button>'
    # What counts the seconds is not to be read aloud each time.
    role = {"error": ' role="alert"', "warning": ' role="status"'}.get(condition.severity, "")
    return (
        f'<div class="lc-notice is-{condition.severity}" data-code="{condition.code}"{role}{hidden}>'
        f"<i></i><p>{coded(escape(condition.sentence))}</p>{_action(condition.action)}{put_off}</div>"
    )


def _listed(condition: Condition) -> str:
    sentence = coded(escape(condition.sentence))
    return f'<li class="is-{condition.severity}"><i></i><p>{sentence}</p>{_action(condition.action)}</li>'


def _action(action: Action) -> str:
    """A button for the page's scripts, or a link that says where it leads."""
    label = escape(action.label)
    if action.link:
        whole = escape(action.link)
        return (
            f'<a class="lc-remedy" href="{whole}" target="_blank" rel="noopener noreferrer">{label}: '
            f"{whole.removeprefix('https://')}</a>"
        )
    return f'<button class="lc-remedy" data-do="{action.code}">{label}</button>'
