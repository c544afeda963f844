// Calls of /api/v1.

import { t } from './i18n.js';

const tokenKey = 'parley-ops-token';

/** A refusal of the server, or no answer (status 0). */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Reports whether the page has a token to send. */
export const hasToken = () => sessionStorage.getItem(tokenKey) !== null;

/** Remembers the token for this tab, or forgets it. */
export function setToken(token) {
  if (token) {
    sessionStorage.setItem(tokenKey, token);
  } else {
    sessionStorage.removeItem(tokenKey);
  }
}

async function call(method, path, body) {
  const headers = {};
  const token = sessionStorage.getItem(tokenKey);
  if (token) {
    headers.Authorization = `Bearer ${token}`;
  }
  if (method === 'POST') {
    headers['Parley-Action'] = '1';
    headers['Content-Type'] = 'application/json';
  }
  let answer;
  let value;
  try {
    answer = await fetch(`/api/v1/${path}`, {
      method, headers, body: body && JSON.stringify(body), signal: AbortSignal.timeout(20_000), cache: 'no-store',
    });
    value = await answer.json();
  } catch (err) {
    throw new ApiError(answer?.status ?? 0, t(answer ? 'nonsense' : 'noAnswer'), { cause: err });
  }
  if (!answer.ok) {
    throw new ApiError(answer.status, value.error ?? t('status', { n: answer.status }));
  }
  return value;
}

/** Asks for something. */
export const get = (path) => call('GET', path);

/** Does something. */
export const post = (path, body = {}) => call('POST', path, body);
