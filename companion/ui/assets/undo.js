let timer;
watch('value', () => {
  clearTimeout(timer);
  element.hidden = false;
  // What was deleted had the focus; the next key belongs here, and not nowhere.
  requestAnimationFrame(() => { if (document.activeElement === document.body) element.querySelector('button')?.focus(); });
  timer = setTimeout(() => { element.hidden = true; }, 10000);
});
element.addEventListener('click', e => {
  if (!e.target.closest('button')) return;
  element.hidden = true;
  trigger('undo', {id: element.querySelector('.lc-undo').dataset.id});
});
