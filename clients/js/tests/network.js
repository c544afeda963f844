// The network between sessions and a cluster, with its faults.

import WebSocket from 'ws';

import { frame, Splitter } from '../wire.js';

/** Network makes connections that tests can cut, stall and change. */
export class Network {
  /** Open connections. */
  links = new Set();
  /** Set: no connection succeeds. */
  down = false;
  /** Called with each frame, `{ id, body, up }`; returns what goes on instead: an array of frames. */
  filter = null;

  /** Returns a WebSocket constructor; its `latest` is the connection made last. */
  dialer() {
    const network = this;
    return class Dialer extends Link {
      constructor(url, protocols) {
        super(network, url, protocols);
        Dialer.latest = this;
      }
    };
  }

  fetch = (url, init) => (this.down ? Promise.reject(new TypeError('the network is down')) : fetch(url, init));

  /** Cuts all connections. */
  cut() {
    for (const link of [...this.links]) link.cut();
  }
}

// Link is a WebSocket whose frames pass the filter of its network.
class Link {
  binaryType = 'arraybuffer';
  onopen = this.onmessage = this.onclose = this.onerror = null;
  bufferedAmount = 0;
  /** Set: what comes from the server is kept back. */
  stalled = null;
  #ws;
  #network;
  #up = new Splitter();
  #down = new Splitter();

  constructor(network, url, protocols) {
    this.#network = network;
    this.url = url;
    const ws = network.down ? null : new WebSocket(url, protocols);
    this.#ws = ws;
    if (!ws) {
      queueMicrotask(() => this.#ended());
      return;
    }
    ws.binaryType = 'arraybuffer';
    ws.onopen = (e) => {
      network.links.add(this);
      this.onopen?.(e);
    };
    ws.onmessage = ({ data }) => this.#pass(this.#down, data, false, (f) => this.inject(f.id, f.body));
    ws.onerror = (e) => this.onerror?.(e);
    ws.onclose = (e) => this.#ended(e);
  }

  #ended(e = { code: 1006, reason: '' }) {
    this.#network.links.delete(this);
    this.onclose?.(e);
  }

  #pass(splitter, data, up, on) {
    for (const f of splitter.push(data)) {
      const frames = this.#network.filter?.({ id: f.id, body: f.body, up, link: this }) ?? [f];
      frames.forEach(on);
    }
  }

  /** Has the session read a frame. */
  inject(id, body) {
    const data = frame(id, JSON.stringify(body), 65535).buffer;
    if (this.stalled) this.stalled.push(data);
    else this.onmessage?.({ data });
  }

  /** Keeps back what comes from the server, or lets it go on. */
  stall(on) {
    const kept = this.stalled ?? [];
    this.stalled = on ? [] : null;
    if (!on) for (const data of kept) this.onmessage?.({ data });
  }

  send(data) {
    this.#pass(this.#up, data, true, (f) => this.#ws.send(frame(f.id, JSON.stringify(f.body))));
  }

  /** Breaks the connection: the session sees it end, the server an abrupt end. */
  cut() {
    if (!this.#ws) return;
    this.#ws.onclose = null;
    this.#ws.terminate();
    this.#ended();
  }

  close(...args) {
    this.#ws?.close(...args);
  }

  terminate() {
    this.#network.links.delete(this);
    this.#ws?.terminate();
  }
}
