// The board is drawn anew with each update: whoever stands on its button with the keyboard stays there.
let held = false;
element.addEventListener('focusin', e => { held = Boolean(e.target.closest('[data-key]')); });
element.addEventListener('focusout', e => { if (e.relatedTarget) held = false; });
watch('value', () => requestAnimationFrame(() => {
  if (!held || document.activeElement !== document.body) return;
  const button = element.querySelector('[data-key]:not(:disabled)') ?? element.querySelector('#lc-qualityline');
  button?.focus({preventScroll: true});
}));

element.addEventListener('click', e => {
  const code = e.target.closest('[data-do]')?.dataset.do;
  if (code) return lc.act(code);
  const button = e.target.closest('[data-key]');
  if (!button || button.disabled) return;
  held = true;
  button.disabled = true;
  // What is as it was before is not drawn anew.
  setTimeout(() => { button.disabled = false; }, 4000);
  trigger('measure');
});
