const words = element.querySelector('input'), order = element.querySelector('select');
const find = () => trigger('find', {find: words.value, order: order.value});
let soon;
words.addEventListener('input', () => { clearTimeout(soon); soon = setTimeout(find, 150); });
order.addEventListener('change', find);
