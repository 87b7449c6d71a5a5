// The button is drawn anew with the findings: who stands on it with the keyboard stays on it.
let held;
watch('value', () => requestAnimationFrame(() => {
  if (held && document.activeElement === document.body) element.querySelector('[data-key]')?.focus({preventScroll: true});
  held = false;
}));

element.addEventListener('click', e => {
  const button = e.target.closest('[data-key=examine]');
  if (!button) return;
  const said = button.textContent;
  held = document.activeElement === button;
  button.disabled = true;
  button.textContent = lcText('doctor.examining');
  // Findings may be what they were, which is not drawn anew.
  setTimeout(() => { if (button.isConnected) { button.disabled = false; button.textContent = said; } }, 20000);
  trigger('examine');
});

// Whoever comes to the doctor wants to be examined.
document.addEventListener('click', e => {
  const comes = e.target.closest('[data-view=doctor]') && element.checkVisibility();
  if (comes && !element.querySelector('.lc-findings')) element.querySelector('[data-key]')?.click();
});
