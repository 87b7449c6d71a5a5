const picks = () => [...element.querySelectorAll('.lc-pick input')];
let soon;

function hide() {
  const open = element.querySelector('.lc-choice');
  if (open) open.hidden = true;
}

function close() {
  hide();
  document.querySelector('#lc-scope .lc-scope')?.focus();
}

function tell() {
  const ids = picks().filter(pick => pick.checked).map(pick => pick.value);
  element.querySelector('.lc-every').checked = !ids.length;
  clearTimeout(soon);
  soon = setTimeout(() => trigger('choose', {ids}), 200);
}

element.addEventListener('change', e => {
  if (e.target.matches('.lc-every')) picks().forEach(pick => { pick.checked = false; });
  tell();
});
element.addEventListener('click', e => { if (e.target.closest('.lc-close')) close(); });
element.addEventListener('keydown', e => {
  if (e.key !== 'Escape') return;
  e.preventDefault();
  e.stopPropagation();
  close();
});
document.addEventListener('pointerdown', e => { if (!e.target.closest('#lc-choice, #lc-scope')) hide(); });

// Another value at each opening.
watch('value', () => { element.querySelector('.lc-choice input')?.focus(); });
