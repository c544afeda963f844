// Curves over time, in SVG.

import { clock, h, number, svg } from './dom.js';
import { t } from './i18n.js';

const height = 190;
const left = 46;
const right = 12;
const top = 10;
const bottom = 22;

/** Returns a round number that is at least n. */
export function ceiling(n) {
  if (n <= 0) {
    return 1;
  }
  const power = 10 ** Math.floor(Math.log10(n));
  for (const step of [1, 2, 4, 5, 10]) {
    if (step * power >= n) {
      return step * power;
    }
  }
  return 10 * power;
}

/** Returns the path of points [time, value]; a value of null is a hole. */
export function path(points, x, y) {
  let out = '';
  let pen = 'M';
  for (const [t, v] of points) {
    if (v === null) {
      pen = 'M';
      continue;
    }
    out += `${pen}${x(t).toFixed(1)} ${y(v).toFixed(1)}${pen === 'M' ? 'h0' : ''}`; // so that a point between holes is drawn
    pen = 'L';
  }
  return out;
}

/** One chart with a title, of which it gets the key, a legend and a line per series. */
export class Chart {
  constructor(title, unit = '') {
    this.unit = unit;
    this.legend = h('ul', { class: 'legend' });
    this.picture = svg('svg', { role: 'img', class: 'plot' });
    this.heading = h('h3', { 'data-t': title }, t(title));
    this.element = h('figure', { class: 'card chart' }, h('figcaption', {}, this.heading, this.legend), this.picture);
    this.hover = null;
    this.series = [];
    this.picture.addEventListener('pointermove', (e) => {
      this.hover = e.clientX - this.picture.getBoundingClientRect().left;
      this.draw();
    });
    this.picture.addEventListener('pointerleave', () => {
      this.hover = null;
      this.draw();
    });
    new ResizeObserver(() => this.draw()).observe(this.picture);
  }

  /** Shows series {name, color, points} between two times. */
  show(series, from, to) {
    Object.assign(this, { series, from, to });
    this.draw();
  }

  draw() {
    const width = this.picture.clientWidth;
    if (!width || !this.to) {
      return;
    }
    const shown = this.series.map((s) => ({ ...s, points: s.points.filter(([t]) => t >= this.from && t <= this.to) }));
    const most = ceiling(Math.max(...shown.flatMap((s) => s.points.map(([, v]) => v ?? 0)), 0));
    const x = (t) => left + (t - this.from) / (this.to - this.from) * (width - left - right);
    const y = (v) => height - bottom - v / most * (height - top - bottom);
    const parts = [];
    for (const share of [0, 0.5, 1]) {
      const at = y(share * most);
      parts.push(
        svg('line', { class: 'rule', x1: left, x2: width - right, y1: at, y2: at }),
        svg('text', { class: 'tick', x: left - 8, y: at + 4, 'text-anchor': 'end' }, number(share * most)),
      );
    }
    const minutes = (this.to - this.from) / 60_000;
    for (const share of [0, 0.5, 1]) {
      const text = share === 1 ? t('rightNow') : t('minutesAgo', { n: number(minutes * (1 - share)) });
      const anchor = ['start', 'middle', 'end'][share * 2];
      parts.push(svg('text', { class: 'tick', x: left + share * (width - left - right), y: height - 4, 'text-anchor': anchor }, text));
    }
    shown.forEach((s) => {
      parts.push(svg('path', { class: `line ${s.color}`, d: path(s.points, x, y) }));
      const value = (i) => s.points[i]?.[1] ?? null;
      const alone = s.points.filter((_, i) => value(i) !== null && value(i - 1) === null && value(i + 1) === null);
      parts.push(...alone.map(([at, v]) => svg('circle', { class: `dot ${s.color}`, cx: x(at), cy: y(v), r: 2 })));
      const last = s.points.at(-1);
      if (last && last[1] !== null) {
        parts.push(svg('circle', { class: `dot ${s.color}`, cx: x(last[0]), cy: y(last[1]), r: 3 }));
      }
    });
    const at = this.nearest(shown, x);
    if (at !== null) {
      parts.push(
        svg('line', { class: 'cursor', x1: x(at), x2: x(at), y1: top, y2: height - bottom }),
        svg('text', { class: 'tick', x: Math.min(Math.max(x(at), left + 26), width - right - 26), y: height - 4, 'text-anchor': 'middle' }, clock(at)),
      );
      parts.splice(6, 3); // its time stands where the others did
    }
    this.picture.setAttribute('viewBox', `0 0 ${width} ${height}`);
    this.picture.replaceChildren(...parts);
    this.describe(shown, at);
  }

  /** Returns the time of the points nearest to the pointer, null without one. */
  nearest(shown, x) {
    if (this.hover === null) {
      return null;
    }
    const times = shown.flatMap((s) => s.points.map(([t]) => t));
    return times.reduce((best, t) => (best === null || Math.abs(x(t) - this.hover) < Math.abs(x(best) - this.hover) ? t : best), null);
  }

  /** Writes the values at a time, or the latest ones, into the legend. */
  describe(shown, at) {
    const items = shown.map((s) => {
      const point = at === null ? s.points.at(-1) : s.points.find(([t]) => t === at);
      const value = point && point[1] !== null ? `${number(point[1])}${this.unit}` : '–';
      return [s, value];
    });
    this.legend.replaceChildren(...items.map(([s, value]) => h('li', {}, h('span', { class: `key ${s.color}` }), `${s.name} `, h('b', {}, value))));
    this.picture.setAttribute('aria-label', `${this.heading.textContent}: ${items.map(([s, value]) => `${s.name} ${value}`).join(', ') || t('noFigures')}`);
  }
}

/** Returns a small curve without axes. */
export function spark(points) {
  const most = Math.max(...points.map(([, v]) => v ?? 0), 1e-9);
  const from = points[0]?.[0] ?? 0;
  const to = Math.max(points.at(-1)?.[0] ?? 1, from + 1);
  const d = path(points, (t) => (t - from) / (to - from) * 100, (v) => 22 - v / most * 20);
  return svg('svg', { class: 'spark', viewBox: '0 0 100 24', preserveAspectRatio: 'none', 'aria-hidden': 'true' }, svg('path', { class: 'line', d }));
}
