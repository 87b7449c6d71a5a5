const row = target => target.closest('.lc-session');
const mine = target => ({id: row(target).dataset.id});

function rename(box) {
  const link = box.querySelector('.lc-open');
  const field = Object.assign(document.createElement('input'), {className: 'lc-rename', value: link.title, maxLength: 120});
  field.setAttribute('aria-label', lcText('sessions.new_name'));
  let over = false;
  const end = (keep, away) => {
    if (over) return;
    over = true;
    field.remove();
    box.classList.remove('is-edited');
    if (away !== 'blur') link.focus();
    if (keep && field.value.trim() && field.value.trim() !== link.title) trigger('rename', {id: box.dataset.id, title: field.value.trim()});
  };
  field.addEventListener('keydown', e => {
    if (e.key === 'Enter') end(true);
    if (e.key === 'Escape') { e.stopPropagation(); end(false); }
  });
  field.addEventListener('blur', () => end(true, 'blur'));
  box.classList.add('is-edited');
  box.append(field);
  field.select();
}

element.addEventListener('click', e => {
  const act = e.target.closest('.lc-act'), link = e.target.closest('.lc-open');
  if (act?.dataset.act === 'rename') rename(row(act));
  if (act?.dataset.act === 'delete') trigger('remove', mine(act));
  if (!link || e.ctrlKey || e.metaKey || e.shiftKey) return;
  e.preventDefault();
  document.body.classList.remove('lc-drawer');
  lcEarly.turn(row(link).dataset.id);
  trigger('open', mine(link));
});

// Up and down go from chat to chat, from the search field too.
document.addEventListener('keydown', e => {
  const step = {ArrowDown: 1, ArrowUp: -1}[e.key], search = e.target.id === 'lc-search';
  const links = [...element.querySelectorAll('.lc-session:not([hidden]) .lc-open')];
  if (search && e.key === 'Enter') links[0]?.click();
  if (!step || !(search || e.target.matches('.lc-open'))) return;
  e.preventDefault();
  links[Math.max(search ? 0 : links.indexOf(e.target) + step, 0)]?.focus();
});

// The list is drawn anew when something changes; who stands in it with the keyboard stays there.
let held = null;
element.addEventListener('focusin', e => { held = {id: row(e.target)?.dataset.id, act: e.target.dataset.act}; });
element.addEventListener('focusout', e => { if (e.relatedTarget) held = null; });
function hold() {
  const box = held?.id && document.activeElement === document.body && element.querySelector(`[data-id="${held.id}"]`);
  if (box) box.querySelector(held.act ? `[data-act=${held.act}]` : '.lc-open').focus();
}

// The address always names the chat that is looked at, so that a reload or a bookmark finds it.
watch('value', () => {
  hold();
  const id = element.querySelector('.lc-sessions')?.dataset.current;
  history.replaceState(null, '', id ? `?session=${encodeURIComponent(id)}` : location.pathname);
});
