// What no single component owns: scrolling, keys, the drawer, filters and copying.
const lc = {
  drawer(open) {
    const phone = matchMedia('(max-width: 820px)').matches;
    document.body.classList.toggle(phone ? 'lc-drawer' : 'lc-wide', phone ? open : !open);
  },
  closePanel() {
    document.body.classList.remove('lc-panel');
    document.querySelectorAll('a.is-open').forEach(a => a.classList.remove('is-open'));
  },
  // Follow the text as it is written, until the reader scrolls up; again when they are back at the end.
  stick() {
    const box = document.querySelector('#lc-chat .bubble-wrap');
    if (!box || box.dataset.stick) return;
    box.dataset.stick = '1';
    let last = 0;
    const end = () => box.scrollHeight - box.clientHeight;
    const leave = () => { box.dataset.stick = '0'; };
    box.addEventListener('wheel', e => { if (e.deltaY < 0) leave(); }, {passive: true});
    box.addEventListener('touchmove', leave, {passive: true});
    box.addEventListener('keydown', e => { if (['PageUp', 'Home', 'ArrowUp'].includes(e.key)) leave(); });
    box.addEventListener('scroll', () => {
      if (box.scrollTop > last && end() - box.scrollTop < 24) box.dataset.stick = '1';
      last = box.scrollTop;
    }, {passive: true});
    new MutationObserver(() => { if (box.dataset.stick === '1') box.scrollTop = end(); })
      .observe(box, {childList: true, subtree: true, characterData: true});
    box.scrollTop = end();
  },
  filter() {
    for (const field of document.querySelectorAll('input[data-filters]')) {
      const wanted = field.value.trim().toLowerCase();
      for (const row of document.querySelectorAll(field.dataset.filters)) {
        const hidden = !row.dataset.filter.includes(wanted);
        if (row.hidden !== hidden) row.hidden = hidden;
      }
    }
  },
  async copy(button) {
    const answer = button.closest('.message').cloneNode(true);
    answer.querySelectorAll('.lc-meta, .lc-note, .thought-group, button').forEach(part => part.remove());
    document.body.append(answer);
    await navigator.clipboard.writeText(answer.innerText.trim()).finally(() => answer.remove());
    button.textContent = 'Copied';
    setTimeout(() => { button.textContent = 'Copy'; }, 1500);
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
  if (document.querySelector('#lc-box .stop-button')) lc.stop();
  else if (document.body.classList.contains('lc-drawer')) lc.drawer(false);
  else lc.closePanel();
});
document.addEventListener('click', e => {
  if (e.target.closest('.lc-copy')) lc.copy(e.target.closest('.lc-copy'));
  if (e.target.closest('.lc-menu')) lc.drawer(true);
  if (document.body.classList.contains('lc-drawer') && !e.target.closest('#lc-side, .lc-menu')) lc.drawer(false);
});
document.addEventListener('input', e => { if (e.target.matches('input[data-filters]')) lc.filter(); });
// A file dropped beside the drop zone must not replace the page.
for (const name of ['dragover', 'drop']) document.addEventListener(name, e => e.preventDefault());
// Gradio draws late and again: what hangs on its elements is looked after on every change, once per frame.
let due = false;
new MutationObserver(() => {
  if (due) return;
  due = true;
  requestAnimationFrame(() => { due = false; lc.stick(); lc.filter(); });
}).observe(document.documentElement, {childList: true, subtree: true});
