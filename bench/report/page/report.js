// Draws the plots of a report from `data`. Without it the page still says everything in words and tables.
(() => {
  const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const colour = i => css("--c" + (i % 8));
  const byId = id => document.getElementById(id);
  let drawn = [];

  // Marks are vertical lines with their words: faults, and what else happened.
  const marks = {hooks: {draw: [u => {
    const ctx = u.ctx, ratio = devicePixelRatio || 1;
    ctx.save();
    ctx.strokeStyle = ctx.fillStyle = css("--c1");
    ctx.font = 11 * ratio + "px system-ui, sans-serif";
    ctx.setLineDash([4 * ratio, 4 * ratio]);
    data.marks.forEach((m, i) => {
      const x = u.valToPos(m.At, "x", true);
      if (x < u.bbox.left || x > u.bbox.left + u.bbox.width) return;
      ctx.beginPath(); ctx.moveTo(x, u.bbox.top); ctx.lineTo(x, u.bbox.top + u.bbox.height); ctx.stroke();
      const right = x > u.bbox.left + u.bbox.width * 0.75;
      ctx.textAlign = right ? "right" : "left";
      ctx.fillText(m.Text, x + (right ? -4 : 4) * ratio, u.bbox.top + (12 + 13 * (i % 4)) * ratio);
    });
    ctx.restore();
  }]}};

  const short = v => v == null ? "–" : Math.abs(v) >= 1e6 ? +(v / 1e6).toPrecision(3) + "M" : Math.abs(v) >= 1e4 ? +(v / 1e3).toPrecision(3) + "k" : "" + +(+v).toPrecision(3);
  const axis = extra => Object.assign({stroke: css("--dim"), grid: {stroke: css("--grid"), width: 1}, ticks: {stroke: css("--grid"), width: 1}, size: 48}, extra);

  function plot(id, columns, series, opts = {}) {
    const at = byId(id);
    at.textContent = "";
    if (!columns[0].length || !columns.slice(1).some(c => c.some(v => v != null && v !== 0))) { at.closest("figure").hidden = true; return; }
    const u = new uPlot({
      width: at.clientWidth, height: opts.height || 190, padding: opts.padding, plugins: opts.plain ? [] : [marks],
      cursor: opts.plain ? {} : {sync: {key: "time"}},
      scales: Object.assign({x: {time: false, range: opts.xrange}, y: {distr: opts.log ? 3 : 1, range: opts.log ? undefined : (u, lo, hi) => [0, hi > 0 ? hi * 1.08 : 1]}}, opts.scales),
      axes: [axis({values: opts.xvalues || ((u, vs) => vs.map(v => v + " s")), splits: opts.xsplits}), axis({values: (u, vs) => vs.map(v => v == null ? "" : short(v))})],
      series: [{label: opts.xlabel || "second", value: opts.xvalue || ((u, v) => v == null ? "–" : v.toFixed(1))}].concat(series.map((s, i) => ({
        label: s.label, stroke: s.colour || colour(i), width: s.width || 1.75, points: {show: columns[0].length < 60, size: 4}, spanGaps: !!s.span, dash: s.dash, value: (u, v) => short(v),
      }))),
    }, columns, at);
    drawn.push(() => u.setSize({width: at.clientWidth, height: opts.height || 190}));
  }

  // Samples of several processes are taken at almost the same times: put them on one axis.
  function processes(key) {
    const names = Object.keys(data.processes).filter(n => data.processes[n][key].some(v => v));
    const ts = [...new Set(names.flatMap(n => data.processes[n].t.map(t => Math.round(t * 5) / 5)))].sort((a, b) => a - b);
    const columns = names.map(n => {
      const p = data.processes[n], row = new Map(p.t.map((t, i) => [Math.round(t * 5) / 5, p[key][i]]));
      return ts.map(t => row.has(t) ? row.get(t) : undefined);
    });
    return [names, [ts, ...columns]];
  }

  function draw() {
    drawn = [];
    if (data.t.length > 1) {
      byId("plots").hidden = false;
      plot("latency", [data.t, data.p50, data.p99, data.max], [{label: "median", colour: colour(0)}, {label: "99 %", colour: colour(1)}, {label: "max", colour: colour(2), width: 1}], {log: true});
      plot("rate", [data.t, data.offered, data.done, data.wrong], [{label: "offered", colour: colour(2), dash: [5, 4]}, {label: "done", colour: colour(0)}, {label: "wrong", colour: colour(1)}]);
      plot("online", [data.t, data.online], [{label: "online", colour: colour(3)}]);
      for (const key of ["cpu", "rss"]) {
        const [names, columns] = processes(key);
        plot(key, columns, names.map(n => ({label: n, span: true})));
      }
      const [gcNames, gc] = processes("gc"), [waitNames, wait] = processes("waiting");
      const ts = [...new Set([...gc[0], ...wait[0]])].sort((a, b) => a - b);
      const on = (cols, i) => { const m = new Map(cols[0].map((t, k) => [t, cols[i + 1][k]])); return ts.map(t => m.get(t)); };
      plot("gc", [ts, ...gcNames.map((_, i) => on(gc, i)), ...waitNames.map((_, i) => on(wait, i))],
        [...gcNames.map(n => ({label: n + " pauses", span: true})), ...waitNames.map(n => ({label: n + " waiting", dash: [5, 4], span: true}))]);
      const strip = byId("stages");
      strip.textContent = "";
      const total = Math.max(...data.stages.map(s => s.at + s.seconds), 1);
      data.stages.forEach((s, i) => {
        const d = document.createElement("div");
        d.textContent = d.title = s.name + ", " + s.seconds.toFixed(1) + " s";
        d.style.left = 100 * s.at / total + "%";
        d.style.width = 100 * s.seconds / total + "%";
        d.style.background = "color-mix(in srgb, " + colour([0, 3, 4, 5, 6, 7][i % 6]) + " 72%, #222)";
        strip.append(d);
      });
    }
    const curves = data.curves.filter(c => c.points.length);
    if (curves.length && byId("curvefig")) {
      byId("curvefig").hidden = false;
      // The axis is the number of nines: each step shows the slowest tenth of what the step before showed.
      const nines = q => Math.min(-Math.log10(Math.max(1 - q, 1e-6)), 6);
      const xs = [...new Set(curves.flatMap(c => c.points.map(p => nines(p[0]))))].sort((a, b) => a - b);
      const columns = curves.map(c => { const m = new Map(c.points.map(p => [nines(p[0]), p[1]])); return xs.map(x => m.has(x) ? m.get(x) : undefined); });
      const label = x => x <= 0 ? "0 %" : +(100 * (1 - Math.pow(10, -x))).toFixed(Math.max(0, Math.ceil(x) - 2)) + " %";
      plot("curve", [xs, ...columns], curves.map(c => ({label: c.name, span: true})), {
        plain: true, log: true, height: 300, padding: [8, 30, 0, 0], xlabel: "percentile", xvalue: (u, v) => v == null ? "–" : label(v),
        xsplits: u => [0, 1, 2, 3, 4, 5, 6].filter(x => u.width > 560 || x % 2 === 0).filter(x => x <= Math.ceil(xs.at(-1))), xvalues: (u, vs) => vs.map(label),
      });
    }
  }
  draw();
  let width = innerWidth, timer;
  addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; clearTimeout(timer); timer = setTimeout(() => drawn.forEach(f => f()), 100); } });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
