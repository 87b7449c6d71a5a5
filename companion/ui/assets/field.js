element.addEventListener('click', e => {
  const button = e.target.closest('[data-act]');
  if (!button) return;
  const {name} = element.querySelector('.lc-foot').dataset;
  if (button.dataset.act === 'reset') trigger('reset', {name});
  else trigger('fill', {name, value: button.dataset.value});
});
