element.addEventListener('click', e => {
  const act = e.target.closest('[data-act=open]');
  if (!act) return;
  lc.openPanel(`#lc-misses [data-id="${act.dataset.id}"]`);
  trigger('open', {id: act.dataset.id});
});

// The list is drawn anew after a measurement: who had it open has it open still.
let open = false;
element.addEventListener('toggle', e => { open = e.target.open; }, true);
watch('value', () => {
  const list = element.querySelector('details');
  if (list && open) list.open = true;
});
