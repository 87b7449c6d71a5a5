const field = () => document.querySelector('#lc-box textarea');
const asked = () => document.dispatchEvent(new Event('lc-asked'));
const questionOf = button => /\bof-(\d+)/.exec(button.className)?.[1];
const wayOf = button => /\bas-(\w+)/.exec(button.className)?.[1] ?? null;

document.addEventListener('click', e => {
  const card = e.target.closest('#lc-welcome [data-ask], #lc-next [data-ask]');
  const button = e.target.closest('#lc-chat button');
  if (card) {
    asked();
    trigger('ask', {text: card.dataset.ask});
  } else if (button?.matches('.lc-copy')) copy(button);
  else if (button?.matches('.lc-again')) {
    asked();
    trigger('again', {id: questionOf(button), mode: wayOf(button)});
  }
  if (e.target.closest('#lc-box .submit-button')) asked();
  // A small menu closes with the next click, wherever that is.
  for (const menu of open()) if (!menu.contains(e.target) || e.target.closest('.lc-way')) menu.open = false;
});

const open = () => document.querySelectorAll('#lc-chatpane details.lc-up[open]');
document.addEventListener('keydown', e => {
  if (e.key === 'Enter' && !e.shiftKey && e.target === field()) asked();
  if (e.key !== 'Escape' || !open().length) return;
  e.preventDefault();
  for (const menu of open()) { menu.open = false; menu.querySelector('summary').focus(); }
}, true);

// What is copied is what is stored: Markdown with its [n], formulas as they were written, tables and code.
async function copy(button) {
  const last = +button.closest('.lc-meta').id.slice(4) + 1, chat = new URLSearchParams(location.search).get('session');
  const stored = fetch(`api/sessions/${chat}/messages?limit=1&before=${last}`).then(async answer =>
    (await answer.json()).messages[0].content);
  const blob = stored.then(text => new Blob([text], {type: 'text/plain'}));
  // Handed over before it has come: some browsers let nothing be copied after a wait.
  if (navigator.clipboard) await navigator.clipboard.write([new ClipboardItem({'text/plain': blob})]);
  else if (!copySelected(await stored)) return;
  const say = done => {
    button.textContent = done ? lcText('chat.copied') : lcText('chat.copy');
    button.classList.toggle('is-done', done);
  };
  say(true);
  setTimeout(say, 1500, false);
}

// Over plain HTTP from another machine browsers have no clipboard, but copy what is selected.
function copySelected(text) {
  const box = document.body.appendChild(document.createElement('textarea'));
  box.value = text;
  box.select();
  const done = document.execCommand('copy');
  box.remove();
  return done;
}

// A keystroke tells the app that somebody is there; one signal in two seconds is enough.
// And what the question would cost is said below the box, as long as something stands in it.
let told = 0, weighing;
document.addEventListener('input', e => {
  if (e.target !== field()) return;
  typed(!!field().value.trim());
  if (Date.now() - told < 2000) return;
  told = Date.now();
  trigger('touch', {});
});
document.addEventListener('lc-asked', () => typed(false));

function typed(something) {
  clearTimeout(weighing);
  document.body.classList.toggle('lc-typed', something);
  if (something) weighing = setTimeout(() => trigger('draft', {text: field().value}), 350);
}
