const field = element.querySelector('input');
element.querySelector('form').addEventListener('submit', e => {
  e.preventDefault();
  const name = field.value.trim();
  if (name) trigger('fetch', {name});
  field.select();
});
