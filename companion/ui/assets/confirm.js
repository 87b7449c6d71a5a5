watch('value', () => requestAnimationFrame(() => element.querySelector('.lc-confirm')?.focus()));
element.addEventListener('click', e => {
  const act = e.target.closest('[data-act]')?.dataset.act;
  if (act === 'sure') trigger('sure', {names: JSON.parse(element.querySelector('.lc-confirm').dataset.names)});
  if (act === 'back') trigger('back', {});
});
