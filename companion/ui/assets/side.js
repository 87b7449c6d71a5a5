element.querySelector('.lc-new').addEventListener('click', () => {
  document.body.classList.remove('lc-drawer');
  lcEarly.turn('');
  trigger('fresh');
});
element.querySelector('.lc-hide').addEventListener('click', () => lc.drawer(false));
