element.addEventListener('click', e => {
  const code = e.target.closest('[data-do]')?.dataset.do;
  if (code) lc.act(code);
});
