function replacement(box) {
  const field = Object.assign(document.createElement('input'), {type: 'file'});
  field.addEventListener('change', async () => {
    const file = field.files[0];
    if (!file) return;
    // What did not arrive is said by the server.
    const {path} = await upload(file).catch(() => ({path: ''}));
    trigger('replace', {id: box.dataset.id, path, name: file.name});
  });
  field.click();
}

element.addEventListener('click', e => {
  const act = e.target.closest('[data-act]');
  if (!act) return;
  if (act.dataset.act === 'more') return trigger('more');
  const box = act.closest('.lc-doc'), {id} = box.dataset;
  if (act.dataset.act === 'replace') return replacement(box);
  if (act.dataset.act === 'delete') return trigger('remove', {id});
  if (act.dataset.act === 'ask') return trigger('ask', {id});
  lc.openPanel(`.lc-doc[data-id="${id}"] .lc-docname`);
  trigger('open', {id});
});

// The list is drawn anew while files are read; whoever was at a button of it stays there.
let at = null;
element.addEventListener('focusin', e => {
  const act = e.target.closest('[data-act]'), box = e.target.closest('.lc-doc');
  at = act && box ? `.lc-doc[data-id="${box.dataset.id}"] [data-act="${act.dataset.act}"]` : null;
});
element.addEventListener('focusout', e => { if (e.relatedTarget) at = null; });
watch('value', () => {
  if (at && document.activeElement === document.body) element.querySelector(at)?.focus({preventScroll: true});
});
