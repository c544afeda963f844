// The page of the cluster: it waits for each look of the status node, and shows it.

import { ask } from './ask.js';
import { ApiError, get, hasToken, setToken } from './api.js';
import { Chart, spark } from './chart.js';
import { $, h, keyed, millis, number, say, span } from './dom.js';
import { History } from './history.js';
import { chooseLanguage, otherLanguage, startLanguage, t, translate } from './i18n.js';
import { color, rebalance, showNodes } from './nodes.js';
import { findSessions, readEvents, retell, showPanels } from './panels.js';
import { prefer, preference } from './shared/prefs.js';

const history = new History();
let look = null;
let heard = 0; // when the status node last answered, by this page's clock
let shown = preference('span', 300); // seconds

const charts = {
  sessions: new Chart('chartSessions'),
  texts: new Chart('chartTexts'),
  latency: new Chart('chartLatency', ' ms'),
  refused: new Chart('chartRefused'),
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
  charts.refused.show([of('logins_per_s', t('logins'), 'c1'), of('refused_per_s', t('refused'), 'c4')], from, to);
}

function showTiles() {
  const tiles = [
    ['sessions', t('sessions'), number(look.sessions), t('connections', { n: number(look.connections) })],
    ['texts_per_s', t('textsPerSecond'), number(look.texts_per_s), t('nPushes', { n: number(look.pushes_per_s) })],
    ['text_p99_ms', t('textAnswered'), millis(look.text_p99_ms), t('andP50', { time: millis(look.text_p50_ms) })],
    ['logins_per_s', t('loginsPerSecond'), number(look.logins_per_s), t('p99Of', { time: millis(look.login_p99_ms) })],
    ['refused_per_s', t('refusedPerSecond'), number(look.refused_per_s), t('allReasons')],
  ];
  const from = look.at_ms - shown * 1000;
  keyed($('tiles'), tiles, {
    key: ([curve]) => curve,
    make: () => h('div', { class: 'card tile' }, h('h2'), h('p', { class: 'big' }), h('p', { class: 'quiet' }), h('div')),
    update: (e, [curve, name, big, small]) => {
      say(e.querySelector('h2'), name);
      say(e.querySelector('.big'), big);
      say(e.querySelector('.quiet'), small);
      e.lastElementChild.replaceChildren(spark((history.cluster[curve] ?? []).filter(([at]) => at >= from)));
    },
  });
}

function showHealth() {
  const count = (...states) => look.nodes.filter((n) => states.includes(n.state)).length;
  const trouble = count('silent', 'dead');
  const moving = count('draining', 'drained');
  const open = count('open');
  const pill = $('health');
  pill.dataset.state = open === 0 || trouble > 0 ? 'dead' : moving > 0 ? 'draining' : 'open';
  const parts = [t('nOpen', { n: open })];
  if (moving > 0) {
    parts.push(t('nMoving', { n: moving }));
  }
  if (trouble > 0) {
    parts.push(t('nSilent', { n: trouble }));
  }
  say(pill, parts.join(', '));
  document.title = `${trouble > 0 ? '⚠ ' : ''}${t('title')} – ${parts[0]}`;
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
    title: t('tokenTitle'),
    content: h('div', {}, h('p', {}, t('tokenText')),
      h('p', { class: 'field' }, h('label', { for: 'token' }, t('token')), token)),
    yes: t('goOn'),
    required: true,
    act: async () => {
      setToken(token.value.trim());
      try {
        await get('cluster');
      } catch (err) {
        setToken('');
        throw err instanceof ApiError && err.status === 401 ? new Error(t('wrongToken')) : err;
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
        showBanner(look.lease_age_ms > 3000 ? t('noRedis', { span: span(look.lease_age_ms) }) : '');
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
      showBanner(heard ? t('stale', { why: err.message, span: span(performance.now() - heard) }) : t('nothingYet', { why: err.message }));
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
    prefer('span', shown);
    if (look) {
      show();
    }
  });
}

/** Writes everything in the language that is set. */
function speak() {
  const [code, name] = otherLanguage();
  $('language').lang = code;
  say($('language'), name);
  translate();
  retell();
  if (look) show();
}
$('language').addEventListener('click', () => {
  chooseLanguage(otherLanguage()[0]);
  speak();
});
startLanguage();
speak();

setInterval(() => say($('age'), look ? t('asOf', { span: span(performance.now() - heard) }) : ''), 1000);
run();
