element.addEventListener('click', e => { if (e.target.closest('.lc-scope')) trigger('open'); });
