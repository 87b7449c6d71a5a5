// The buttons are drawn anew with each update: who stands on one with the keyboard stays on it, or on
// the one that took its place.
let held;
document.addEventListener('focusin', e => { held = element.contains(e.target) && e.target.dataset.key; });
watch('value', () => requestAnimationFrame(() => {
  if (!held || document.activeElement !== document.body) return;
  (element.querySelector(`[data-key="${held}"]`) || element.querySelector('[data-key]'))?.focus({preventScroll: true});
}));

element.addEventListener('click', e => {
  const button = e.target.closest('[data-key]');
  if (!button) return;
  const begins = button.dataset.key === 'start', said = button.textContent;
  const wait = waits => element.querySelectorAll('[data-key]').forEach(each => { each.disabled = waits; });
  button.textContent = begins ? lcText('index.starting') : lcText('index.stopping');
  wait(true);
  // What is as it was before is not drawn anew.
  setTimeout(() => { if (button.isConnected) { button.textContent = said; wait(false); } }, 4000);
  if (begins) trigger('start'); else trigger('stop');
});
