// A question is edited where it stands. What was typed stays in its form until the server has taken it;
// if it does not, its sentence stands there, too. Escape forgets it.
let form = null;

function edit(bubble, meta) {
  if (form) end();
  form = Object.assign(document.createElement('form'), {className: 'lc-edit'});
  form.innerHTML = '<textarea rows="1"></textarea><p></p><button type="button" class="lc-no"></button><button class="lc-yes"></button>';
  const words = form.querySelector('textarea');
  words.value = meta.querySelector('.lc-raw').textContent;
  words.setAttribute('aria-label', lcText('chat.edit_field'));
  form.querySelector('p').textContent = lcText('chat.edit_about');
  form.querySelector('.lc-no').textContent = lcText('chat.edit_cancel');
  form.querySelector('.lc-yes').textContent = lcText('chat.edit_send');
  const fit = () => { words.style.height = 'auto'; words.style.height = `${Math.min(words.scrollHeight, 320)}px`; };
  words.addEventListener('input', fit);
  words.addEventListener('keydown', e => {
    if (e.key === 'Escape') { e.stopPropagation(); end(); }
    if (e.key === 'Enter' && !e.shiftKey && !e.isComposing) { e.preventDefault(); form.requestSubmit(); }
  });
  form.querySelector('.lc-no').onclick = end;
  form.addEventListener('submit', e => {
    e.preventDefault();
    if (!words.value.trim() || form.ariaBusy === 'true') return;
    wait(true);
    // A server that says nothing may be asked again.
    setTimeout(wait, 4000, false, form);
    trigger('resend', {id: meta.id.slice(4), text: words.value});
  });
  bubble.classList.add('is-edited');
  bubble.append(form);
  fit();
  words.focus();
}

function wait(waits, of = form) {
  of.ariaBusy = String(waits);
  of.querySelector('.lc-yes').disabled = waits;
}

function end() {
  form.closest('.message')?.classList.remove('is-edited');
  form.remove();
  form = null;
  document.querySelector('#lc-box textarea').focus();
}

document.addEventListener('click', e => {
  const button = e.target.closest('#lc-chat .lc-do.is-edit');
  if (button) edit(button.closest('.message'), button.closest('.lc-meta'));
});

watch('value', () => {
  const said = element.querySelector('[data-at]');
  if (!form || !said) return;
  if (said.textContent) {
    const line = form.querySelector('p');
    line.textContent = said.textContent;
    line.className = 'lc-error';
    line.setAttribute('role', 'alert');
    wait(false);
    return form.querySelector('textarea').focus();
  }
  end();
  document.dispatchEvent(new Event('lc-asked'));
});
