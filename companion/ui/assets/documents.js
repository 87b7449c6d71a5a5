function replacement(box) {
  const field = Object.assign(document.createElement('input'), {type: 'file'});
  field.addEventListener('change', async () => {
    const file = field.files[0];
    if (!file) return;
    const {path} = await upload(file);
    trigger('replace', {id: box.dataset.id, path, name: file.name});
  });
  field.click();
}

element.addEventListener('click', e => {
  const act = e.target.closest('[data-act]');
  if (!act) return;
  const box = act.closest('.lc-doc');
  if (act.dataset.act === 'replace') return replacement(box);
  if (act.dataset.act === 'delete') return trigger('remove', {id: box.dataset.id});
  document.body.classList.add('lc-panel');
  trigger('open', {id: box.dataset.id});
});
