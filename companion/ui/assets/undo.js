let timer;
watch('value', () => {
  clearTimeout(timer);
  element.hidden = false;
  timer = setTimeout(() => { element.hidden = true; }, 10000);
});
element.addEventListener('click', e => {
  if (!e.target.closest('button')) return;
  element.hidden = true;
  trigger('undo', {id: element.querySelector('.lc-undo').dataset.id});
});
