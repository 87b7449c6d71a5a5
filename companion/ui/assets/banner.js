const KEY = 'lc-putoff';
const putOff = () => JSON.parse(sessionStorage.getItem(KEY) || '[]');
const keyOf = notice => `${notice.dataset.code}: ${notice.querySelector('p').textContent}`;

// The most important notice that was not waved aside in this tab.
function choose() {
  const gone = putOff(), notices = [...element.querySelectorAll('.lc-notice')];
  const first = notices.find(notice => !notice.querySelector('.lc-putoff') || !gone.includes(keyOf(notice)));
  for (const notice of notices) notice.hidden = notice !== first;
}

element.addEventListener('click', e => {
  const notice = e.target.closest('.lc-notice'), code = e.target.closest('[data-do]')?.dataset.do;
  if (e.target.closest('.lc-putoff')) {
    sessionStorage.setItem(KEY, JSON.stringify([...putOff(), keyOf(notice)]));
    choose();
    lc.act('ask');
  }
  if (code === 'try_again') trigger('again'); else if (code) lc.act(code);
});
watch('value', choose);
choose();
