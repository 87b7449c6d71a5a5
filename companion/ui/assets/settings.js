// Marks what is not saved yet, and says what is wrong with a number before it is sent.
const stored = {};
let chosen;
// What was typed and not saved: another chat, or a reload, sets all fields; then it is typed again.
const KEY = 'lc-unsaved';
let unsaved = {};
let kept = JSON.parse(sessionStorage.getItem(KEY));
const fieldOf = name => document.getElementById(`lc-set-${name}`);
const inputOf = field => field.querySelector('input:checked') ?? field.querySelector('input, textarea');

function shown(name) {
  if (name === 'model_name') return chosen;
  const input = inputOf(fieldOf(name));
  return input.type === 'checkbox' ? String(input.checked) : input.value;
}

function mark() {
  // Before the first view nothing is known to differ.
  if (!Object.keys(stored).length) return;
  unsaved = {};
  for (const name of Object.keys(stored)) {
    const differs = shown(name) !== stored[name];
    fieldOf(name).querySelector('.lc-unsaved').hidden = !differs;
    if (differs) unsaved[name] = shown(name);
    if (fieldOf(name).querySelector('[data-own]')) check(name);
  }
  const any = Object.keys(unsaved).length > 0;
  document.getElementById('lc-saverow').classList.toggle('is-unsaved', any);
  document.body.classList.toggle('lc-changed', any);
}

function isBad(name) {
  const {low, high, rule, decimal} = fieldOf(name).querySelector('.lc-foot').dataset, {value} = inputOf(fieldOf(name));
  const isNumber = decimal === undefined ? Number.isInteger(+value) : Number.isFinite(+value);
  return Boolean(rule) && (value === '' || !isNumber || +value < +low || +value > +high);
}

function check(name) {
  const field = fieldOf(name), foot = field.querySelector('.lc-foot'), {rule} = foot.dataset, bad = isBad(name);
  if (!rule) return;
  field.querySelector('[data-own]')?.remove();
  if (bad) {
    const line = Object.assign(document.createElement('p'), {className: 'lc-error', textContent: rule});
    line.setAttribute('role', 'alert');
    line.dataset.own = '';
    foot.before(line);
    field.querySelectorAll('.lc-error:not([data-own])').forEach(each => { each.hidden = true; });
  }
  tell(field, bad);
}

function tell(field, bad) {
  const input = inputOf(field), line = field.querySelector('.lc-error:not([hidden])');
  input.setAttribute('aria-invalid', String(bad));
  if (line) line.id = `${field.id}-error`;
  if (bad && line) input.setAttribute('aria-describedby', line.id); else input.removeAttribute('aria-describedby');
}

function take() {
  const news = element.querySelector('[data-kept]')?.dataset;
  if (!news) return;
  if (kept && lcWho() === undefined) return soon();
  if (kept?.who === lcWho()) unsaved = kept.values;
  kept = null;
  Object.assign(stored, JSON.parse(news.kept));
  if ('chosen' in news) chosen = news.chosen;
  if ('view' in news) {
    const typed = Object.entries(unsaved).filter(([name, value]) => stored[name] !== value);
    if (typed.length) return trigger('retype', {values: Object.fromEntries(typed)});
  }
  const field = news.bad && fieldOf(news.bad);
  if (field) field.querySelector('[data-own]')?.remove();
  mark();
  if (!field) return;
  tell(field, true);
  inputOf(field).focus();
  field.scrollIntoView({block: 'nearest'});
}

// The fields get their values in the same breath; they are looked at when all is drawn.
const soon = () => requestAnimationFrame(() => requestAnimationFrame(take));
watch('value', soon);
addEventListener('pagehide', () => { if (!kept) sessionStorage.setItem(KEY, JSON.stringify({who: lcWho(), values: unsaved})); });
soon();
for (const name of ['input', 'change']) document.addEventListener(name, e => {
  const field = e.target.closest('#lc-setpane .lc-field');
  if (!field) return;
  if (name === 'input') {
    field.querySelectorAll('.lc-error').forEach(line => { line.hidden = true; });
    tell(field, false);
  }
  requestAnimationFrame(mark);
});
document.addEventListener('focusout', e => {
  if (e.relatedTarget?.id === 'lc-save') return;
  if (e.target.matches('#lc-setpane input[type=number]')) check(e.target.closest('.lc-field').id.slice(7));
});
document.addEventListener('click', e => {
  if (!e.target.closest('#lc-save')) return;
  // The server says what is wrong with the first; the others are told here.
  const [first, ...others] = Object.keys(stored).filter(isBad);
  if (first) fieldOf(first).querySelector('[data-own]')?.remove();
  others.forEach(check);
}, {capture: true});
