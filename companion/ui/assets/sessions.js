const row = target => target.closest('.lc-session');
const mine = target => ({id: row(target).dataset.id});

function rename(box) {
  const link = box.querySelector('.lc-open');
  const field = Object.assign(document.createElement('input'), {className: 'lc-rename', value: link.title, maxLength: 120});
  field.setAttribute('aria-label', 'New name');
  let over = false;
  const end = keep => {
    if (over) return;
    over = true;
    field.remove();
    box.classList.remove('is-edited');
    if (keep && field.value.trim() && field.value.trim() !== link.title) trigger('rename', {id: box.dataset.id, title: field.value.trim()});
  };
  field.addEventListener('keydown', e => {
    if (e.key === 'Enter') end(true);
    if (e.key === 'Escape') { e.stopPropagation(); end(false); }
  });
  field.addEventListener('blur', () => end(true));
  box.classList.add('is-edited');
  box.append(field);
  field.select();
}

function ask(box) {
  const bar = document.createElement('div');
  bar.className = 'lc-sure';
  bar.innerHTML = '<span>Delete this chat?</span><button class="lc-yes">Delete</button><button class="lc-no">Keep</button>';
  bar.querySelector('.lc-yes').onclick = () => { bar.remove(); trigger('remove', {id: box.dataset.id}); };
  bar.querySelector('.lc-no').onclick = () => bar.remove();
  box.append(bar);
  bar.querySelector('.lc-no').focus();
}

element.addEventListener('click', e => {
  const act = e.target.closest('.lc-act'), link = e.target.closest('.lc-open');
  if (act?.dataset.act === 'rename') rename(row(act));
  if (act?.dataset.act === 'delete') ask(row(act));
  if (!link || e.ctrlKey || e.metaKey || e.shiftKey) return;
  e.preventDefault();
  document.body.classList.remove('lc-drawer');
  trigger('open', mine(link));
});

// The address always names the chat that is looked at, so that a reload or a bookmark finds it.
watch('value', () => {
  const id = element.querySelector('.lc-sessions')?.dataset.current;
  history.replaceState(null, '', id ? '?session=' + encodeURIComponent(id) : location.pathname);
});
