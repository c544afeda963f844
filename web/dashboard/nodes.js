// The table of nodes.

import { ask } from './ask.js';
import { post } from './api.js';
import { $, h, keyed, millis, number, say, span } from './dom.js';
import { t } from './i18n.js';

export const colors = ['c1', 'c2', 'c3', 'c4', 'c5', 'c6', 'c7', 'c8'];
const colorOf = new Map();

/** Returns the colour of a node, the same for as long as the page is open. */
export function color(name) {
  if (!colorOf.has(name)) {
    colorOf.set(name, colors[colorOf.size % colors.length]);
  }
  return colorOf.get(name);
}

function makeRow(node) {
  const cell = (name, tag = 'td', attributes = {}) => h(tag, { 'data-is': name, ...attributes });
  return h('tr', { 'data-node': node.name },
    h('th', { scope: 'row' }, h('span', { class: `key ${color(node.name)}` }), node.name),
    h('td', {}, h('span', { class: 'state', 'data-is': 'state' })),
    h('td', { class: 'wide' }, h('div', { class: 'load' }, h('span', { 'data-is': 'sessions' }), h('span', { class: 'bar' }, h('i', { 'data-is': 'bar' }))),
      h('div', { class: 'note', 'data-is': 'note' })),
    ...['texts', 'pushes', 'p50', 'p99', 'waiting', 'up'].map((name) => cell(name, 'td', { class: 'num' })),
    h('td', { class: 'act' }, h('button', { type: 'button', class: 'button small', 'data-is': 'act' })),
  );
}

/** Says in a line what is special about a node. */
export function note(node, now) {
  const m = node.moving;
  if (node.state === 'silent') {
    return node.heard_ms ? t('lastHeard', { n: number(node.sessions), span: span(now - node.heard_ms) }) : t('neverHeard');
  }
  if (m && (node.state === 'draining' || node.state === 'drained' || !m.ended_ms || now - m.ended_ms < 60_000)) {
    const parts = [t('moved', { moved: number(m.moved), told: number(m.told) })];
    if (m.moved > 0) {
      parts.push(t('gap', { p50: millis(m.gap_p50_ms), p99: millis(m.gap_p99_ms), max: millis(m.gap_max_ms) }));
    }
    if (m.missing > 0) {
      parts.push(t('notSeen', { n: number(m.missing) }));
    }
    return parts.join(' · ');
  }
  return '';
}

function updateRow(row, { node, most, now }) {
  const is = (name) => row.querySelector(`[data-is=${name}]`);
  const answers = node.state !== 'silent' && node.state !== 'dead';
  is('state').dataset.state = node.state;
  say(is('state'), t(node.state));
  say(is('sessions'), answers ? number(node.sessions) : '–');
  is('bar').style.width = `${answers ? node.sessions / Math.max(most, 1) * 100 : 0}%`;
  is('bar').className = color(node.name);
  say(is('note'), note(node, now));
  const figure = (name, text) => say(is(name), answers ? text : '–');
  figure('texts', number(node.texts_per_s));
  figure('pushes', number(node.pushes_per_s));
  figure('p50', millis(node.text_p50_ms));
  figure('p99', millis(node.text_p99_ms));
  figure('waiting', number((node.queues?.texts ?? 0) + (node.queues?.logins ?? 0)));
  figure('up', node.started_ms ? span(now - node.started_ms) : '–');
  const button = is('act');
  const drained = node.state === 'draining' || node.state === 'drained';
  button.hidden = !answers;
  say(button, t(drained ? 'undrain' : 'drainAsk'));
  button.setAttribute('aria-label', t(drained ? 'undrainNode' : 'drainNode', { node: node.name }));
  button.onclick = () => (drained ? undrain(node) : drain(node));
}

/** Shows the nodes of a look. */
export function showNodes(look) {
  const most = Math.max(...look.nodes.map((n) => n.sessions), 1);
  const rows = look.nodes.map((node) => ({ node, most, now: look.at_ms }));
  keyed($('node-rows'), rows, { key: ({ node }) => node.name, make: ({ node }) => makeRow(node), update: updateRow });
  $('no-nodes').hidden = look.nodes.length > 0;
  $('rebalance').disabled = look.nodes.filter((n) => n.state === 'open').length < 2;
}

function drain(node) {
  const seconds = h('input', { id: 'over', type: 'number', min: 1, max: 3600, value: 10, required: true });
  return ask({
    title: t('drainTitle', { node: node.name }),
    content: h('div', {},
      h('p', {}, t('drainText', { n: number(node.sessions) })),
      h('p', { class: 'field' }, h('label', { for: 'over' }, t('spreadOver')), seconds, t('unitSeconds'))),
    yes: t('drain'),
    danger: true,
    act: () => post(`nodes/${encodeURIComponent(node.name)}/drain`, { over_ms: seconds.valueAsNumber * 1000 }),
  });
}

function undrain(node) {
  return ask({
    title: t('undrainTitle', { node: node.name }),
    content: h('p', {}, t('undrainText')),
    yes: t('undrain'),
    act: () => post(`nodes/${encodeURIComponent(node.name)}/undrain`),
  });
}

/** Shows what a rebalance would do, and does it. */
export async function rebalance() {
  const { plan } = await post('rebalance', { dry_run: true });
  if (plan.length === 0) {
    return ask({ title: t('nothingToMove'), content: h('p', {}, t('balanced')), yes: t('close'), act: () => {} });
  }
  return ask({
    title: t('rebalanceTitle'),
    content: h('ul', { class: 'plan' }, plan.map((move) => h('li', {}, t('transfer', { n: number(move.sessions), from: move.from, to: move.to })))),
    yes: t('moveThem'),
    act: async () => {
      const { failed } = await post('rebalance');
      const reasons = Object.entries(failed).map(([node, reason]) => `${node}: ${reason}`);
      if (reasons.length > 0) {
        throw new Error(reasons.join('; '));
      }
    },
  });
}
