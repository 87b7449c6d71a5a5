// What no single component owns: keys, the drawer, filters, and where the actions of notices lead.
const lc = {
  // To a tab, and there to the first element that fits; a hidden tab is drawn when it is opened.
  go(tab, selector, then = found => found.focus()) {
    if (tab) document.querySelector(`#lc-tabs [role=tab][data-tab-id=${tab}]`).click();
    let tries = 40;
    const look = () => {
      const found = document.querySelector(selector);
      if (!found?.getClientRects().length) return tries-- && setTimeout(look, 25);
      found.scrollIntoView({block: 'center'});
      then(found);
    };
    look();
  },
  act(code) {
    const acts = {
      add_documents: () => lc.go('documents', '#lc-dropzone input[type=file]'),
      free_disk_space: () => lc.go('documents', '#lc-doclist [data-act=delete]'),
      show_failed_documents: () => lc.go('documents', '.lc-doc:has(.is-failed) .lc-docname'),
      pull_model: () => lc.go('settings', '[data-view=models]', view => { view.click(); view.focus(); lc.go(null, '.lc-pullform input'); }),
      choose_model: () => lc.go(null, '#lc-model input', field => { field.focus(); field.click(); }),
      choose_embedder: () => lc.go('settings', '[data-view=general]', view => { view.click(); lc.go(null, '#lc-set-embed_light input'); }),
      open_settings: () => lc.go('settings', '[data-view=general]', view => { view.click(); lc.go(null, '#lc-set-idle_threshold_s input'); }),
      open_doctor: () => lc.go('settings', '[data-view=doctor]', view => { view.click(); view.focus(); }),
      set_questions: () => lc.go('settings', '[data-view=general]', view => { view.click(); lc.go(null, '#lc-set-quality_questions input'); }),
      show_index: () => lc.go('index', '#lc-workline'),
      ask: () => lc.go('chat', '#lc-box textarea'),
      // A browser closes only what a script has opened; whoever leaves lets go of the connection, too.
      close_page: () => { close(); location.replace('about:blank'); },
    };
    acts[code]?.();
  },
  drawer(open) {
    const phone = matchMedia('(max-width: 820px)').matches;
    document.body.classList.toggle(phone ? 'lc-drawer' : 'lc-wide', phone ? open : !open);
  },
  // The panel on the right; what it was opened from has the focus again when it closes.
  openPanel(opener) {
    lc.opener = opener;
    document.body.classList.add('lc-panel');
  },
  closePanel() {
    if (!document.body.classList.contains('lc-panel')) return;
    document.body.classList.remove('lc-panel');
    for (const link of document.querySelectorAll('a.is-open')) link.classList.remove('is-open');
    lc.cover(false);
    document.querySelector(lc.opener)?.focus({preventScroll: true});
  },
  // On a phone the panel covers everything else, for the keyboard too.
  cover(open) {
    const phone = matchMedia('(max-width: 820px)').matches;
    for (const part of document.querySelectorAll('#lc-side, #lc-main > :not(#lc-right)')) part.inert = open && phone;
  },
  filter() {
    for (const field of document.querySelectorAll('input[data-filters]')) {
      const wanted = field.value.trim().toLowerCase();
      for (const row of document.querySelectorAll(field.dataset.filters)) {
        const hidden = !row.dataset.filter.includes(wanted);
        if (row.hidden !== hidden) row.hidden = hidden;
      }
      const missed = field.dataset.missed && document.querySelector(field.dataset.missed);
      const none = wanted !== '' && !document.querySelector(`${field.dataset.filters}:not([hidden])`);
      if (missed && missed.hidden === none) missed.hidden = !none;
    }
  },
  // What Gradio draws without a name: the arrow inside the button of a thinking block, and Send.
  name() {
    for (const arrow of document.querySelectorAll('.thought-group .title button:not([inert])')) arrow.inert = true;
    document.querySelector('#lc-box .submit-button:not([aria-label])')?.setAttribute('aria-label', lcText('chat.edit_send'));
  },
  stop() { document.querySelector('#lc-box .stop-button')?.click(); },
};

document.addEventListener('keydown', e => {
  if ((e.ctrlKey || e.metaKey) && e.key.toLowerCase() === 'k') {
    e.preventDefault();
    lc.drawer(true);
    document.getElementById('lc-search')?.focus();
  }
  if (e.key !== 'Escape' || e.defaultPrevented) return;
  // A browser empties a search field by itself.
  if (e.target.type === 'search' && e.target.value) return;
  if (document.querySelector('#lc-box .stop-button')) lc.stop();
  else if (document.body.classList.contains('lc-drawer')) lc.drawer(false);
  else lc.closePanel();
});
document.addEventListener('click', e => {
  if (e.target.closest('.lc-menu')) lc.drawer(true);
  if (document.body.classList.contains('lc-drawer') && !e.target.closest('#lc-side, .lc-menu')) lc.drawer(false);
});
document.addEventListener('input', e => { if (e.target.matches('input[data-filters]')) lc.filter(); });

// What is asked before the view stands that was asked for would be drawn over by it, or reach the chat
// that was left: it is sent then.
const lcEarly = {
  asked: false,
  wanted: null,
  patience: 10,
  // To a chat, or to a new one without a name; one that cannot be shown is not waited for.
  turn(chat) {
    lcEarly.wanted = chat;
    clearTimeout(lcEarly.tired);
    lcEarly.tired = setTimeout(lcEarly.stay, lcEarly.patience * 1000);
  },
  stay() {
    lcEarly.wanted = null;
    lcEarly.send();
  },
  arrived() {
    const shown = document.querySelector('.lc-sessions')?.dataset.current;
    if (shown === lcEarly.wanted) lcEarly.wanted = null;
    return shown !== undefined && lcEarly.wanted === null;
  },
  hold(e) {
    if (lcEarly.arrived()) return;
    e.preventDefault();
    e.stopImmediatePropagation();
    lcEarly.asked = true;
  },
  send() {
    if (!lcEarly.asked || !lcEarly.arrived()) return;
    lcEarly.asked = false;
    document.querySelector('#lc-box .submit-button').click();
  },
};
document.addEventListener('keydown', e => {
  if (e.key === 'Enter' && !e.shiftKey && e.target.matches('#lc-box textarea')) lcEarly.hold(e);
}, true);
document.addEventListener('click', e => { if (e.target.closest('#lc-box .submit-button')) lcEarly.hold(e); }, true);

// A file dropped beside the drop zone must not replace the page.
for (const name of ['dragover', 'drop']) document.addEventListener(name, e => e.preventDefault());
// Gradio draws late and again: what hangs on its elements is looked after on every change, once per frame.
let due = false;
new MutationObserver(() => {
  if (due) return;
  due = true;
  requestAnimationFrame(() => { due = false; lc.filter(); lc.name(); lcDraft.restore(); lcEarly.send(); });
}).observe(document.documentElement, {childList: true, subtree: true});
