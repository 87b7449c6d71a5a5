element.addEventListener('click', e => {
  const card = e.target.closest('[data-ask]');
  if (card) trigger('ask', {text: card.dataset.ask});
});

// A keystroke tells the app that somebody is there; one signal in two seconds is enough.
let told = 0;
document.addEventListener('input', e => {
  if (!e.target.closest('#lc-box') || Date.now() - told < 2000) return;
  told = Date.now();
  trigger('touch', {});
});
