// The last hour, from what the status node remembers and what came since.

const kept = 3_600_000;

// Without texts there is no time that one took: 0 is a hole in the curve.
const measured = (name, value) => (value === 0 && name.endsWith('_ms') ? null : value);

/** Keeps the points of the curves: [time, value], oldest first. */
export class History {
  constructor() {
    this.cluster = {};
    this.nodes = {};
    this.step = 5000;
    this.settled = 0; // time of the last point that stays
  }

  /** Takes what /api/v1/curves answered. */
  load(curves) {
    this.step = curves.step_ms;
    const points = (name, values) => values.map((v, i) => [curves.at_ms[i], measured(name, v)]);
    const all = (of) => Object.fromEntries(Object.entries(of).map(([name, values]) => [name, points(name, values)]));
    this.cluster = all(curves.cluster);
    this.nodes = Object.fromEntries(Object.entries(curves.nodes).map(([name, of]) => [name, all(of)]));
    this.settled = curves.at_ms.at(-1) ?? 0;
  }

  /** Takes a look. Every few seconds a point stays; those in between replace each other. */
  add(look) {
    const at = look.at_ms;
    const stays = at - this.settled >= this.step;
    const put = (curves, name, value) => {
      const points = curves[name] ??= [];
      if (points.length > 0 && points.at(-1)[0] > this.settled) {
        points.pop();
      }
      points.push([at, measured(name, value)]);
      while (points[0][0] < at - kept) {
        points.shift();
      }
    };
    const names = ['sessions', 'texts_per_s', 'pushes_per_s', 'logins_per_s', 'refused_per_s', 'text_p50_ms', 'text_p99_ms'];
    for (const name of names) {
      put(this.cluster, name, look[name]);
      for (const node of look.nodes) {
        const answered = node.state !== 'silent' && node.state !== 'dead';
        put(this.nodes[node.name] ??= {}, name, answered ? node[name] : null);
      }
    }
    if (stays) {
      this.settled = at;
    }
  }
}
