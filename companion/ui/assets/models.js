// The buttons are drawn anew with each update: who stands on one with the keyboard stays on it.
let held;
document.addEventListener('focusin', e => { held = element.contains(e.target) ? e.target.dataset.key : undefined; });
watch('value', () => requestAnimationFrame(() => {
  if (held && document.activeElement === document.body) element.querySelector(`[data-key="${CSS.escape(held)}"]`)?.focus();
}));

element.addEventListener('click', e => {
  const button = e.target.closest('[data-act]');
  if (!button) return;
  const {act, name} = button.dataset;
  if (act === 'cancel') return trigger('cancel', {name});
  button.disabled = true;
  if (act === 'fetch') return trigger('fetch', {name});
  button.textContent = lcText(act === 'bring' ? 'models.loading' : 'models.unloading');
  if (act === 'bring') trigger('bring', {name}); else trigger('free', {name});
});
