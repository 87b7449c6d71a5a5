// Follow the text as it is written, until the reader scrolls up; again when they are back at the end.
const box = document.getElementById('lc-chat');
const end = () => box.scrollHeight - box.clientHeight;
let follows = true, last = 0, held = 0, at = '';

const far = () => { document.body.classList.toggle('lc-behind', !follows && end() - box.scrollTop > 120); };
const leave = () => { follows = false; held = 0; far(); };
const back = () => { follows = true; box.scrollTop = end(); far(); };

box.tabIndex = 0;
box.addEventListener('wheel', e => { if (e.deltaY < 0) leave(); }, {passive: true});
box.addEventListener('touchmove', leave, {passive: true});
box.addEventListener('keydown', e => { if (['PageUp', 'Home', 'ArrowUp'].includes(e.key)) leave(); });
// The bar itself, taken with the mouse.
box.addEventListener('pointerdown', e => { if (e.target === box) leave(); });
box.addEventListener('scroll', () => {
  if (box.scrollTop > last && end() - box.scrollTop < 24) follows = true;
  last = box.scrollTop;
  far();
}, {passive: true});

// Earlier messages come in above: what is read stays where it is.
box.addEventListener('click', e => {
  if (!e.target.closest('#lc-earlier')) return;
  leave();
  held = box.scrollHeight - box.scrollTop;
  setTimeout(() => { held = 0; }, 1500);
});
new MutationObserver(() => {
  // Gradio reads each message out as it was written, marks of ours included.
  for (const message of box.querySelectorAll('[data-testid=user][aria-label], [data-testid=bot][aria-label]')) message.removeAttribute('aria-label');
  if (at !== location.search) { at = location.search; follows = true; }
  if (follows) box.scrollTop = end();
  else if (held) box.scrollTop = box.scrollHeight - held;
  far();
}).observe(box, {childList: true, subtree: true, characterData: true});
// Pictures, fonts and mathematics change the height without a change of the text.
new ResizeObserver(() => { if (follows) box.scrollTop = end(); }).observe(box);

element.addEventListener('click', back);
// Whoever asks wants to see the answer.
document.addEventListener('lc-asked', back);
back();
