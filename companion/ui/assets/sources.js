const cards = () => element.querySelectorAll('.lc-card');

function mark(number) {
  cards().forEach(card => {
    const hit = card.dataset.n === number;
    card.classList.toggle('is-hit', hit);
    if (!hit) return;
    card.open = true;
    card.scrollIntoView({block: 'start', behavior: 'smooth'});
  });
}

document.addEventListener('click', e => {
  const link = e.target.closest('a[href^="#src-"]');
  if (!link) return;
  e.preventDefault();
  document.querySelectorAll('a.is-open').forEach(a => a.classList.remove('is-open'));
  link.classList.add('is-open');
  document.body.classList.add('lc-panel');
  trigger('cite', {ref: link.getAttribute('href').slice(5)});
  if (element.querySelector('.lc-sources')?.dataset.key === link.getAttribute('href').slice(5)) mark(link.textContent.trim());
});

element.addEventListener('click', e => { if (e.target.closest('.lc-close')) lc.closePanel(); });

watch('value', () => {
  const hit = element.querySelector('.lc-card.is-hit');
  if (hit) mark(hit.dataset.n); else element.querySelector('.lc-cards')?.scrollTo(0, 0);
});
