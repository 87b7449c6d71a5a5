element.addEventListener('click', e => {
  const view = e.target.closest('[data-view]')?.dataset.view;
  if (!view) return;
  document.body.classList.toggle('lc-onmodels', view === 'models');
  for (const each of element.querySelectorAll('button')) each.setAttribute('aria-pressed', String(each.dataset.view === view));
  document.body.classList.toggle('lc-ondoctor', view === 'doctor');
});

// From the list of models to the switch that hides some of them.
document.addEventListener('click', e => {
  if (!e.target.closest('[data-open=cloud]')) return;
  element.querySelector('[data-view=general]').click();
  lc.go(null, '#lc-set-show_cloud_models input');
});
