// The page of the cluster: it waits for each look of the status node, and shows it.

import { ask } from './ask.js';
import { ApiError, get, hasToken, setToken } from './api.js';
import { Chart, spark } from './chart.js';
import { $, follow, h, millis, number, say, span } from './dom.js';
import { History } from './history.js';
import { color, rebalance, showNodes } from './nodes.js';
import { findSessions, readEvents, showPanels } from './panels.js';

const history = new History();
let look = null;
let heard = 0; // when the status node last answered, by this page's clock
let shown = Number(localStorage.getItem('parley-span')) || 300; // seconds

const charts = {
  sessions: new Chart('Sessions'),
  texts: new Chart('Texts stored per second'),
  latency: new Chart('Answer to a text', ' ms'),
  refused: new Chart('Logins and refusals per second'),
};
$('charts').append(...Object.values(charts).map((c) => c.element));

function showCharts() {
  const to = look.at_ms;
  const from = to - shown * 1000;
  const each = (name) => Object.keys(history.nodes).sort().map((node) => ({ name: node, color: color(node), points: history.nodes[node][name] ?? [] }));
  const of = (name, label, c) => ({ name: label, color: c, points: history.cluster[name] ?? [] });
  charts.sessions.show(each('sessions'), from, to);
  charts.texts.show(each('texts_per_s'), from, to);
  charts.latency.show([of('text_p50_ms', 'p50', 'c1'), of('text_p99_ms', 'p99', 'c2')], from, to);
  charts.refused.show([of('logins_per_s', 'logins', 'c1'), of('refused_per_s', 'refused', 'c4')], from, to);
}

function showTiles() {
  const tiles = [
    ['Sessions', number(look.sessions), 'sessions', `${number(look.connections)} connections`],
    ['Texts per second', number(look.texts_per_s), 'texts_per_s', `${number(look.pushes_per_s)} pushes`],
    ['Text answered', millis(look.text_p99_ms), 'text_p99_ms', `p99; p50 ${millis(look.text_p50_ms)}`],
    ['Logins per second', number(look.logins_per_s), 'logins_per_s', `p99 ${millis(look.login_p99_ms)}`],
    ['Refused per second', number(look.refused_per_s), 'refused_per_s', 'all reasons'],
  ];
  const from = look.at_ms - shown * 1000;
  follow($('tiles'), tiles, ([name]) => name, ([name]) => h('div', { class: 'card tile' }, h('h2', {}, name), h('p', { class: 'big' }), h('p', { class: 'quiet' }), h('div')),
    (e, [, big, curve, small]) => {
      say(e.querySelector('.big'), big);
      say(e.querySelector('.quiet'), small);
      e.lastElementChild.replaceChildren(spark((history.cluster[curve] ?? []).filter(([t]) => t >= from)));
    });
}

function showHealth() {
  const count = (...states) => look.nodes.filter((n) => states.includes(n.state)).length;
  const trouble = count('silent', 'dead');
  const moving = count('draining', 'drained');
  const open = count('open');
  const pill = $('health');
  const nodes = (n) => (n === 1 ? '1 node' : `${n} nodes`);
  pill.dataset.state = open === 0 || trouble > 0 ? 'dead' : moving > 0 ? 'draining' : 'open';
  const parts = [`${nodes(open)} open`];
  if (moving > 0) {
    parts.push(`${moving} drained or draining`);
  }
  if (trouble > 0) {
    parts.push(`${trouble} not answering`);
  }
  say(pill, parts.join(', '));
  document.title = `${trouble > 0 ? '⚠ ' : ''}Parley cluster – ${parts[0]}`;
}

function show() {
  showHealth();
  showTiles();
  showNodes(look);
  showCharts();
  showPanels(look);
  document.body.dataset.seq = look.seq; // for tests
}

/** Says what is wrong with the page's own sources, if anything is. */
function showBanner(text) {
  $('banner').hidden = !text;
  say($('banner'), text);
  document.body.classList.toggle('stale', Boolean(text));
}

function askToken() {
  const token = h('input', { id: 'token', type: 'password', autocomplete: 'off', required: true });
  return ask({
    title: 'This cluster needs a token',
    content: h('div', {}, h('p', {}, 'Enter [Ops] Token of the status node. It is kept in this tab only.'),
      h('p', { class: 'field' }, h('label', { for: 'token' }, 'Token'), token)),
    yes: 'Go on',
    required: true,
    act: async () => {
      setToken(token.value.trim());
      try {
        await get('cluster');
      } catch (err) {
        setToken('');
        throw err instanceof ApiError && err.status === 401 ? new Error('That is not the token.') : err;
      }
    },
  });
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** Follows the cluster for as long as the page is open. */
async function run() {
  let fresh = false; // the hour has been read from this status node
  for (let wait = 500; ; wait = Math.min(wait * 2, 4000)) {
    try {
      if (!fresh) {
        history.load(await get('curves'));
        fresh = true;
      }
      for (;;) {
        look = await get(`cluster?after=${look?.seq ?? 0}`);
        heard = performance.now();
        wait = 500;
        history.add(look);
        await readEvents();
        showBanner(look.lease_age_ms > 3000 ? `Redis has not answered the status node for ${span(look.lease_age_ms)}: who is alive is not known.` : '');
        show();
      }
    } catch (err) {
      if (err instanceof ApiError && (err.status === 401 || err.status === 403 && !hasToken())) {
        if (err.status === 403) {
          showBanner(err.message);
          await pause(4000);
        } else {
          setToken('');
          await askToken();
        }
        continue;
      }
      fresh = false;
      showBanner(`${err.message} What is shown is ${heard ? `${span(performance.now() - heard)} old` : 'nothing yet'}.`);
    }
    await pause(wait);
  }
}

$('rebalance').addEventListener('click', () => rebalance().catch((err) => showBanner(err.message)));
$('find').addEventListener('submit', (e) => {
  e.preventDefault();
  findSessions($('uid').value.trim()).catch((err) => showBanner(err.message));
});
for (const choice of document.querySelectorAll('[name=span]')) {
  choice.checked = Number(choice.value) === shown;
  choice.addEventListener('change', () => {
    shown = Number(choice.value);
    localStorage.setItem('parley-span', choice.value);
    if (look) {
      show();
    }
  });
}
setInterval(() => say($('age'), look ? `as of ${span(performance.now() - heard)} ago` : ''), 1000);
run();
