const states = () => element.querySelector('.lc-states'), button = () => element.querySelector('.lc-pill');
let open = false;

function show(wanted, focus = true) {
  open = wanted;
  states().hidden = !open;
  button().setAttribute('aria-expanded', open);
  if (!focus) return;
  const first = open && states().querySelector('.lc-remedy');
  (first || button()).focus();
}

element.addEventListener('click', e => {
  const code = e.target.closest('[data-do]')?.dataset.do;
  if (e.target.closest('.lc-pill')) return show(!open);
  if (!code) return;
  show(false);
  if (code === 'try_again') trigger('again'); else lc.act(code);
});
element.addEventListener('keydown', e => {
  if (e.key !== 'Escape' || !open) return;
  e.preventDefault();
  show(false);
});
element.addEventListener('focusout', e => { if (open && e.relatedTarget && !element.contains(e.relatedTarget)) show(false, false); });
document.addEventListener('click', e => { if (open && !e.composedPath().includes(element)) show(false, false); });

// Drawn anew every few seconds while something changes: what is open stays open.
watch('value', () => { if (open) show(true, document.activeElement === document.body); });
