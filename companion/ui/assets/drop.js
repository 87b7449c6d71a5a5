const zone = element.querySelector('.lc-drop'), field = zone.querySelector('input[type=file]');
const adding = element.querySelector('.lc-adding'), folder = element.querySelector('.lc-folder');
const line = element.querySelector('.lc-uploading'), lines = element.querySelector('.lc-coming');
// What has arrived is handed over this often, so that it is read while the rest is on its way.
const PART_MS = 1500;
// Files that systems leave in folders, and nobody means: each has a part of its path that begins with a dot.
const meant = ({name}) => !/(^|\/)(\.|Thumbs\.db$|desktop\.ini$|~\$)/.test(name);
let waiting = Promise.resolve();
adding.disabled = Boolean(document.querySelector('.lc-noroom'));

// A line for each file, from the choice until the list of documents has one for it.
function announce(name) {
  const own = document.createElement('li');
  own.append(Object.assign(document.createElement('span'), {textContent: name, title: name}), document.createElement('small'));
  own.dataset.name = name;
  lines.append(own);
  be(own, 'waiting', lcText('drop.state.waiting'));
  return own;
}

function be(own, state, said) {
  own.dataset.state = state;
  own.lastChild.textContent = said;
}

function lose(own, why) {
  own.textContent = why;
  own.dataset.state = 'lost';
}

function settle() {
  const answered = document.querySelector('#lc-results [data-answered]')?.dataset.answered.split(' ') ?? [];
  for (const own of lines.querySelectorAll('[data-state=reading]')) {
    const {name, part} = own.dataset;
    if (answered.includes(part) || document.querySelector(`.lc-doc[data-name="${CSS.escape(name)}"]`)) own.remove();
  }
}

function tell(number, total) {
  line.hidden = false;
  line.querySelector('span').textContent = lcText('drop.uploading', {number, total});
  Object.assign(line.querySelector('progress'), {max: total, value: number - 1});
}

async function send(chosen) {
  const key = `${Date.now()}-${Math.random()}`, clash = element.querySelector('input[name=lc-clash]:checked').value;
  let arrived = [], parts = 0, handed = Date.now();
  const hand = () => {
    const part = `${key}/${parts}`;
    for (const {own} of arrived) {
      be(own, 'reading', lcText('drop.state.reading'));
      own.dataset.part = part;
    }
    const files = arrived.map(({path, name}) => ({path, name}));
    if (files.length) trigger('arrived', {files, clash, first: !parts++, upload: key, part});
    [arrived, handed] = [[], Date.now()];
  };
  for (const [i, {file, name, own}] of chosen.entries()) {
    const {max} = zone.dataset;
    tell(i + 1, chosen.length);
    if (file.size > max * 1e6) {
      lose(own, lcText('drop.too_large', {name, max}));
      continue;
    }
    be(own, 'uploading', lcText('drop.state.uploading'));
    try {
      arrived.push({path: (await upload(file)).path, name, own});
      be(own, 'arrived', lcText('drop.state.arrived'));
    } catch (error) {
      const why = refusal(error);
      lose(own, why ? `${name}: ${why}` : lcText('drop.failed', {name}));
    }
    if (Date.now() - handed > PART_MS) hand();
  }
  line.hidden = true;
  hand();
}

// The server's own sentence, where a file was refused and not lost: “HTTP 429: {"error": …”.
function refusal({message}) {
  try { return JSON.parse(message.slice(message.indexOf('{'))).error.message; } catch { return null; }
}

function forget() {
  for (const own of lines.querySelectorAll('[data-state=lost]')) own.remove();
}

function take(chosen) {
  if (!chosen.length || adding.disabled) return;
  const announced = chosen.map(each => ({...each, own: announce(each.name)}));
  waiting = waiting.then(() => send(announced));
}

const named = files => [...files].map(file => ({file, name: file.webkitRelativePath || file.name}));

// What was dropped, folders with all that is in them; their paths are kept in the names.
async function inside(entry) {
  const name = entry.fullPath.replace(/^\//, '');
  if (entry.isFile) return [{file: await new Promise((done, fail) => entry.file(done, fail)), name}];
  const reader = entry.createReader(), found = [];
  for (;;) {
    // A hundred at a time.
    const some = await new Promise((done, fail) => reader.readEntries(done, fail));
    if (!some.length) break;
    for (const each of some) found.push(...await inside(each));
  }
  return found.filter(meant);
}

async function dropped(entries) {
  forget();
  const found = [];
  for (const entry of entries) {
    await inside(entry).then(files => found.push(...files), () => lose(announce(entry.name), lcText('drop.failed', {name: entry.name})));
  }
  take(found);
}

field.addEventListener('change', () => { forget(); take(named(field.files)); field.value = ''; });
folder.addEventListener('click', () => {
  const whole = Object.assign(document.createElement('input'), {type: 'file', webkitdirectory: true});
  whole.addEventListener('change', () => { forget(); take(named(whole.files).filter(meant)); });
  whole.click();
});
for (const name of ['dragenter', 'dragover']) zone.addEventListener(name, e => { e.preventDefault(); zone.classList.add('is-over'); });
for (const name of ['dragleave', 'drop']) zone.addEventListener(name, e => { e.preventDefault(); zone.classList.remove('is-over'); });
zone.addEventListener('drop', e => {
  // The entries are gone when the event is over.
  const entries = [...e.dataTransfer.items].map(item => item.webkitGetAsEntry()).filter(Boolean);
  if (entries.length) dropped(entries);
});
new MutationObserver(settle).observe(element.closest('#lc-docpane'), {childList: true, subtree: true});
