const cards = () => element.querySelectorAll('.lc-card');

function mark(number) {
  cards().forEach(card => {
    const hit = card.dataset.n === number;
    card.classList.toggle('is-hit', hit);
    if (!hit) return;
    card.open = true;
    card.scrollIntoView({block: 'start'});
    const meant = card.querySelector('mark') ?? card.querySelector('.lc-text');
    const end = element.querySelector('.lc-cards').getBoundingClientRect().bottom;
    if (meant?.getBoundingClientRect().top > end - 60) meant.scrollIntoView({block: 'center'});
    card.querySelector('summary').focus({preventScroll: true});
  });
}

document.addEventListener('click', e => {
  const link = e.target.closest('a[href^="#src-"]');
  if (!link) return;
  e.preventDefault();
  for (const other of document.querySelectorAll('a.is-open')) other.classList.remove('is-open');
  link.classList.add('is-open');
  const address = link.getAttribute('href'), ref = address.slice(5);
  lc.openPanel(`a[href="${address}"]`);
  trigger('cite', {ref});
  if (element.querySelector('.lc-sources')?.dataset.key !== ref) return;
  lc.cover(true);
  mark(link.textContent.trim());
});

// The list of documents may come after the answer of the server: its tab is drawn late.
function reveal(id, until = Date.now() + 3000) {
  const name = document.querySelector(`.lc-doc[data-id="${id}"] .lc-docname`);
  if (!name?.offsetParent) return Date.now() < until && requestAnimationFrame(() => reveal(id, until));
  name.closest('.lc-doc').scrollIntoView({block: 'center'});
  name.focus({preventScroll: true});
}

// The panel is drawn anew with more passages: whoever reads on stays there, at the first new one.
let read = null;
function goOn() {
  element.querySelector('.lc-cards').scrollTop = read.top;
  cards()[read.shown]?.querySelector('summary').focus({preventScroll: true});
  read = null;
}

element.addEventListener('click', e => {
  if (e.target.closest('.lc-close')) return lc.closePanel();
  const act = e.target.closest('[data-act]'), id = act?.dataset.id;
  if (!act) return;
  if (act.dataset.act === 'ask') {
    trigger('ask', {id});
    return lc.closePanel();
  }
  if (act.dataset.act === 'more') {
    read = {id, top: element.querySelector('.lc-cards').scrollTop, shown: cards().length};
    return trigger('more', {id, most: act.dataset.most});
  }
  trigger('listed', {id});
  const words = document.querySelector('#lc-docfilter input');
  if (words) words.value = '';
  if (matchMedia('(max-width: 820px)').matches) lc.closePanel();
  reveal(id);
});

watch('value', () => {
  if (!element.querySelector('.lc-sources')) return lc.closePanel();
  lc.cover(document.body.classList.contains('lc-panel'));
  const hit = element.querySelector('.lc-card.is-hit');
  if (hit) return mark(hit.dataset.n);
  if (read?.id === element.querySelector('.lc-sources').dataset.key) return goOn();
  read = null;
  element.querySelector('.lc-cards').scrollTo(0, 0);
  element.querySelector('h2').focus({preventScroll: true});
});
