// Where there is no room, nothing is taken in; the sentence says why.
watch('value', () => {
  const full = Boolean(element.querySelector('.lc-noroom')), adding = document.querySelector('.lc-adding');
  if (adding) adding.disabled = full;
});
