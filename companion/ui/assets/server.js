// The page and its server: what happens when it goes away, when too many pages are open, and what was
// typed meanwhile. It does not know what anybody asks the server for.

// What the scripts say; {name} stands for a value. The texts are those of the server.
const lcTexts = JSON.parse(document.getElementById('lc-texts').textContent);
const lcText = (key, values = {}) => lcTexts[key].replace(/\{(\w+)\}/g, (_, name) => values[name]);

document.documentElement.lang = lcText('app.language');

// Visitors of a demo are known by a secret of their browser: in the frame of another site there are no
// cookies. Where nothing can be kept, the secret lasts as long as the page.
const lcVisitor = {
  secret: null,
  make() {
    return Array.from(crypto.getRandomValues(new Uint8Array(32)), each => each.toString(16).padStart(2, '0')).join('');
  },
  find() {
    try {
      localStorage['lc-visitor'] ??= lcVisitor.make();
      return localStorage['lc-visitor'];
    } catch {
      return lcVisitor.make();
    }
  },
  named(address, options = {}) {
    const own = new URL(address instanceof Request ? address.url : address, location.href).origin === location.origin;
    if (!lcVisitor.secret || !own) return options;
    const headers = new Headers(options.headers ?? (address instanceof Request ? address.headers : {}));
    headers.set('x-companion-visitor', lcVisitor.secret);
    return {...options, headers};
  },
  // A link cannot say who follows it.
  async fetchFile(event) {
    const link = event.target.closest?.('a[href^="api/"], a[href^="/api/"]');
    if (!link || !lcVisitor.secret) return;
    event.preventDefault();
    const answer = await window.fetch(link.href);
    if (!answer.ok) return;
    const named = /filename\*=UTF-8''([^;]+)/.exec(answer.headers.get('content-disposition') ?? '');
    const file = Object.assign(document.createElement('a'), {href: URL.createObjectURL(await answer.blob())});
    file.download = named ? decodeURIComponent(named[1]) : '';
    file.click();
    setTimeout(() => URL.revokeObjectURL(file.href), 1000);
  },
};
if (document.querySelector('meta[name=companion-mode]').content === 'demo') {
  lcVisitor.secret = lcVisitor.find();
  document.addEventListener('click', lcVisitor.fetchFile, true);
}

// A server that started anew knows nothing of an open page, and one that is gone answers nothing: in
// both cases the page waits, and loads itself anew. Nobody who asked is told of a failure.
const lcServer = {
  raw: window.fetch.bind(window),
  ask: (address, options) => lcServer.raw(address, lcVisitor.named(address, options)),
  start: null,
  leaving: false,
  lost: false,
  async fetch(...request) {
    if (lcServer.lost) return lcServer.never();
    let answer;
    try {
      answer = await lcServer.ask(...request);
    } catch (error) {
      if (lcServer.leaving || error.name === 'AbortError') throw error;
      return lcServer.wait();
    }
    // The login has ended; the server asks for a new one.
    if (answer.status === 401 && !lcVisitor.secret) {
      location.reload();
      return lcServer.never();
    }
    if (answer.status === 500) lcRefusal.hear(answer.clone());
    const start = answer.headers.get('x-companion-start');
    lcServer.start ??= start;
    return start && start !== lcServer.start ? lcServer.wait() : answer;
  },
  never: () => new Promise(() => {}),
  wait() {
    if (!lcServer.lost) {
      lcServer.lost = true;
      lcServer.say();
      lcServer.look();
    }
    return lcServer.never();
  },
  say() {
    const bar = document.createElement('div');
    bar.id = 'lc-lost';
    bar.setAttribute('role', 'alert');
    bar.innerHTML = '<i></i><p></p><button class="lc-remedy"></button>';
    bar.querySelector('p').textContent = lcText('lost.sentence');
    bar.querySelector('button').textContent = lcText('lost.action');
    bar.querySelector('button').onclick = lcServer.look;
    document.body.append(bar);
    document.body.classList.add('lc-away');
  },
  async look() {
    clearTimeout(lcServer.next);
    try {
      if ((await lcServer.ask('api/health', {signal: AbortSignal.timeout(4000)})).ok) return location.reload();
    } catch { /* Not yet. */ }
    lcServer.next = setTimeout(lcServer.look, 1000);
  },
};
window.fetch = lcServer.fetch;

// Gradio shows the sentence of a refusal only if the event had to queue, and most of ours need not.
const lcRefusal = {
  seconds: 10,
  async hear(answer) {
    if (!new URL(answer.url).pathname.endsWith('/run/predict')) return;
    const {error, visible} = await answer.json();
    if (error && visible !== false) lcRefusal.say(error);
  },
  say(sentence) {
    document.getElementById('lc-refusal')?.remove();
    const bar = document.createElement('div');
    bar.id = 'lc-refusal';
    bar.setAttribute('role', 'alert');
    bar.innerHTML = '<p></p><button class="lc-putoff">×</button>';
    // Words only, whatever they are made up with.
    bar.querySelector('p').textContent = new DOMParser().parseFromString(sentence, 'text/html').body.textContent;
    bar.querySelector('button').ariaLabel = lcText('notice.put_off');
    bar.querySelector('button').onclick = () => bar.remove();
    document.body.append(bar);
    setTimeout(() => bar.remove(), lcRefusal.seconds * 1000);
  },
};

// Each open page keeps one of the six connections that a browser has for one address: one page more
// would never be whole, and would keep the others from the server. A lock ends with its page.
const lcPages = {
  most: 5,
  open: async () => (await navigator.locks.query()).held.filter(lock => lock.name.startsWith('lc-page-')).length,
  async arrive() {
    // Locks are only there on this machine and over HTTPS.
    if (!navigator.locks) return;
    if (await lcPages.open() >= lcPages.most) lcPages.stayOut();
    else navigator.locks.request(`lc-page-${Date.now()}-${Math.random()}`, lcServer.never);
  },
  stayOut() {
    window.stop();
    document.body ?? document.documentElement.append(document.createElement('body'));
    document.body.innerHTML = '<main id="lc-sixth"><span class="lc-mark"></span><h1></h1><p></p><button class="lc-remedy"></button></main>';
    document.body.classList.toggle('dark', matchMedia('(prefers-color-scheme: dark)').matches);
    document.querySelector('#lc-sixth h1').textContent = lcText('app.name');
    document.querySelector('#lc-sixth p').textContent = lcText('sixth.sentence');
    const button = document.querySelector('#lc-sixth button');
    button.textContent = lcText('sixth.action');
    button.onclick = () => location.reload();
    setInterval(async () => { if (await lcPages.open() < lcPages.most) location.reload(); }, 1000);
  },
};
// Not later: what Gradio loads takes the last connection.
lcPages.arrive();

// What is typed and not sent outlives a reload, and so does the tab one was in.
const lcDraft = {
  keep() {
    lcServer.leaving = true;
    const box = document.querySelector('#lc-box textarea');
    const tab = document.querySelector('#lc-tabs [role=tab][aria-selected=true]')?.dataset.tabId;
    if (box) sessionStorage.setItem('lc-draft', JSON.stringify({typed: box.value, tab, where: location.search}));
  },
  // When the first view has come: before it, the box would be emptied again.
  restore() {
    const box = document.querySelector('#lc-box textarea'), kept = sessionStorage.getItem('lc-draft');
    if (!kept || !box || !document.querySelector('.lc-sessions')) return;
    sessionStorage.removeItem('lc-draft');
    const {typed, tab, where} = JSON.parse(kept);
    if (where !== location.search) return;
    if (tab !== 'chat') document.querySelector(`#lc-tabs [role=tab][data-tab-id=${tab}]`)?.click();
    if (!typed) return;
    box.value = typed;
    box.dispatchEvent(new Event('input', {bubbles: true}));
  },
};
addEventListener('pagehide', lcDraft.keep);
