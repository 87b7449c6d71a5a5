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
  broken: false,
  pulse: null,
  async fetch(...request) {
    if (lcServer.lost) return lcServer.never();
    let answer;
    try {
      answer = await lcServer.ask(...request);
    } catch (error) {
      if (lcServer.leaving || error.name === 'AbortError') throw error;
      return lcServer.wait();
    }
    if (answer.status === 401 && !lcVisitor.secret) return lcServer.signIn();
    if (answer.ok && new URL(answer.url).pathname.includes('/gradio_api/heartbeat/')) lcServer.beat(answer.clone());
    if (answer.status === 500) lcRefusal.hear(answer.clone());
    const start = answer.headers.get('x-companion-start');
    lcServer.start ??= start;
    return start && start !== lcServer.start ? lcServer.wait() : answer;
  },
  never: () => new Promise(() => {}),
  // The login has ended; the server asks for a new one, and then the page comes back to where it was.
  signIn() {
    lcDraft.ended = true;
    location.reload();
    return lcServer.never();
  },
  // With this connection the server forgets the page, and Gradio opens no other.
  async beat(answer) {
    lcServer.pulse = answer.url;
    const reader = answer.body.getReader();
    try { while (!(await reader.read()).done); } catch { /* Broken off. */ }
    lcServer.broken = true;
    if (!lcServer.leaving) lcServer.wait();
  },
  // A server that is about to end answers still, but lets go of such a connection at once.
  async stays(start) {
    if (!lcServer.pulse || start !== lcServer.start) return true;
    const signal = AbortSignal.timeout(1500), answer = await lcServer.ask(lcServer.pulse, {signal});
    if (!answer.ok) return true;
    try { await answer.text(); } catch { /* Broken off, or still there. */ }
    return signal.aborted;
  },
  // Some browsers break the connections of a page when it may be about to go: a download leaves it there.
  mayLeave() {
    lcServer.leaving = true;
    setTimeout(lcServer.stay, 10000);
  },
  stay() {
    lcServer.leaving = false;
    if (lcServer.broken) lcServer.wait();
  },
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
      const answer = await lcServer.ask('api/health', {signal: AbortSignal.timeout(4000)});
      if (answer.status === 401 && !lcVisitor.secret) return lcServer.signIn();
      if (answer.ok && await lcServer.stays(answer.headers.get('x-companion-start'))) return location.reload();
    } catch { /* Not yet. */ }
    lcServer.next = setTimeout(lcServer.look, 1000);
  },
};
window.fetch = lcServer.fetch;
addEventListener('beforeunload', lcServer.mayLeave);
// From the back/forward cache, too.
addEventListener('pageshow', lcServer.stay);

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

// Whose page it is: their name where one signs in, nothing elsewhere; undefined before the first view.
const lcWho = () => document.querySelector('meta[name=companion-mode]').content === 'shared' ? document.querySelector('.lc-account b')?.textContent : '';

// What is typed and not sent outlives a reload, and so does the tab one was in. It is given back to nobody else.
const lcDraft = {
  ended: false,
  keep() {
    lcServer.leaving = true;
    // Not given back yet.
    if (sessionStorage.getItem('lc-draft')) return;
    const box = document.querySelector('#lc-box textarea');
    const tab = document.querySelector('#lc-tabs [role=tab][aria-selected=true]')?.dataset.tabId;
    if (box) sessionStorage.setItem('lc-draft', JSON.stringify({typed: box.value, tab, where: location.search, who: lcWho(), ended: lcDraft.ended}));
  },
  // When the first view has come: before it, the box would be emptied again.
  restore() {
    const box = document.querySelector('#lc-box textarea'), kept = sessionStorage.getItem('lc-draft');
    if (lcServer.leaving || !kept || !box || !document.querySelector('.lc-sessions') || lcWho() === undefined) return;
    sessionStorage.removeItem('lc-draft');
    const {typed, tab, where, who, ended} = JSON.parse(kept);
    if (who !== lcWho()) return;
    if (where !== location.search) {
      // Behind a login the address is bare; a chat that is gone is not looked for twice.
      if (ended && !location.search) lcDraft.goBack({typed, tab, where, who});
      return;
    }
    if (tab !== 'chat') document.querySelector(`#lc-tabs [role=tab][data-tab-id=${tab}]`)?.click();
    if (!typed) return;
    box.value = typed;
    box.dispatchEvent(new Event('input', {bubbles: true}));
  },
  goBack(kept) {
    lcServer.leaving = true;
    sessionStorage.setItem('lc-draft', JSON.stringify(kept));
    location.replace(kept.where);
  },
  signOut(event) {
    // Behind all that keep something when the page goes.
    if (event.target.matches('.lc-account form')) addEventListener('pagehide', () => sessionStorage.clear());
  },
};
document.addEventListener('submit', lcDraft.signOut);
addEventListener('pagehide', lcDraft.keep);
