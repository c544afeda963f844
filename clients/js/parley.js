// The JavaScript client of a Parley cluster. parley.d.ts documents what is exported; docs/PROTOCOL.md describes the protocol.

export { VERSION } from './core.js';
export { ParleyError } from './error.js';
export { Gate } from './gate.js';
export { MAX_TEXT, newId, textLength } from './outbox.js';
export { Session } from './session.js';

export const MAX_UNREAD = 100;
export const MAX_WATCHED = 500;
