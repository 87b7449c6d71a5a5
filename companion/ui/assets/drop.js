const zone = element.querySelector('.lc-drop'), field = zone.querySelector('input[type=file]');
const line = element.querySelector('.lc-uploading');
let waiting = Promise.resolve();

async function send(files) {
  const arrived = [], lost = [];
  for (const [i, file] of files.entries()) {
    line.textContent = `Uploading ${file.name} (${i + 1} of ${files.length}) …`;
    try {
      if (file.size > zone.dataset.max * 1e6) throw new Error(`is larger than ${zone.dataset.max} MB`);
      arrived.push({path: (await upload(file)).path, name: file.name});
    } catch (error) {
      lost.push(`${file.name} ${/larger/.test(error.message) ? error.message : 'could not be uploaded'}.`);
    }
  }
  line.textContent = lost.join(' ');
  const clash = element.querySelector('input[name=lc-clash]:checked').value;
  if (arrived.length) trigger('arrived', {files: arrived, clash});
}

const take = files => { const list = [...files]; if (list.length) waiting = waiting.then(() => send(list)); };
field.addEventListener('change', () => { take(field.files); field.value = ''; });
for (const name of ['dragenter', 'dragover']) zone.addEventListener(name, e => { e.preventDefault(); zone.classList.add('is-over'); });
for (const name of ['dragleave', 'drop']) zone.addEventListener(name, e => { e.preventDefault(); zone.classList.remove('is-over'); });
zone.addEventListener('drop', e => take(e.dataTransfer.files));
