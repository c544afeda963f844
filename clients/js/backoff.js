/**
 * Full jitter: returns a uniform wait between 0 and min(limit, base·2ⁿ) before attempt n, counted from 0, so that clients that lost
 * the same node at the same moment do not come back at the same moment.
 */
export const jitter = (base, limit, n) => Math.random() * Math.min(limit, base * 2 ** Math.min(n, 30));
