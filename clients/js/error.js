// Errors: refusals by a server and this library's own.

// names holds the name and the text of each code.
const names = new Map([
  [1, ['CodeNotStored', 'the verification code could not be stored']],
  [2, ['MailNotSent', 'the mail could not be sent']],
  [1001, ['BadJSON', 'the server could not read the request']],
  [1002, ['NoServer', 'no server could take the request']],
  [1003, ['NoVerificationCode', 'no verification code is waiting for this address']],
  [1004, ['WrongVerificationCode', 'wrong verification code']],
  [1005, ['UserExists', 'the name or the e-mail address is taken']],
  [1006, ['PasswordsDiffer', 'the password and its confirmation differ']],
  [1007, ['EmailMismatch', 'no such user, or another e-mail address']],
  [1008, ['PasswordNotChanged', 'the password could not be changed']],
  [1009, ['WrongPassword', 'wrong e-mail address or password']],
  [1010, ['TokenInvalid', 'the login token is not valid any more']],
  [1011, ['NoSuchUser', 'no such user']],
  [1012, ['NotFriends', 'the chat could not be opened']],
  [1013, ['HistoryNotRead', 'the history could not be read']],
  [2000, ['Internal', 'the server failed']],
  [2001, ['Busy', 'the server is busy']],
  [2002, ['Unavailable', 'the server cannot reach its stores']],
  [2003, ['RateLimited', 'too many requests']],
  [2004, ['SlowConsumer', 'too slow in reading']],
  [2005, ['BadRequest', 'the request is not valid']],
  [2006, ['NotAllowed', 'not allowed']],
  [2007, ['TooFarBehind', 'too much was missed']],
  [2008, ['Draining', 'the server is shutting down']],
]);

const retried = new Set([1, 2, 1002, 1008, 1013, 2000, 2001, 2002, 2003, 2004, 2007, 2008]);

/** The codes that this library treats in a way of their own. */
export const Code = {
  TokenInvalid: 1010,
  Internal: 2000,
  Busy: 2001,
  Unavailable: 2002,
  RateLimited: 2003,
  BadRequest: 2005,
  NotAllowed: 2006,
  Draining: 2008,
};

const adviceOf = (code) => (code === Code.TokenInvalid ? 'login' : retried.has(code) ? 'retry' : 'give up');

// own holds the text and the advice of each error that no server sent.
const own = new Map([
  ['Network', ['the connection failed', 'retry']],
  ['Timeout', ['no answer in time', 'retry']],
  ['Protocol', ['the server broke the protocol', 'retry']],
  ['Closed', ['closed', 'give up']],
  ['Replaced', ['replaced by a newer login', 'give up']],
  ['LoggedOut', ['logged out', 'give up']],
  ['InvalidText', ['the text is empty, too long, or holds a NUL or half a surrogate pair', 'give up']],
  ['InFlight', ['a text with this unique id is already in flight', 'give up']],
  ['QueueFull', ['too much is waiting already', 'retry']],
  ['Unsupported', ['the server does not support this', 'give up']],
  ['Aborted', ['aborted', 'give up']],
]);

export class ParleyError extends Error {
  constructor(fields, cause) {
    super(fields.message, cause === undefined ? undefined : { cause });
    this.code = fields.code ?? 0;
    this.name = fields.name;
    this.op = fields.op ?? '';
    this.retryAfter = fields.retryAfter ?? 0;
    this.advice = fields.advice;
    this.reason = fields.reason ?? '';
    this.to = fields.to ?? '';
  }
}

/** Returns the error of a refusal by a server. */
export function refusal(op, code, { retryAfter = 0, reason = '', to = '' } = {}) {
  const [name, text] = names.get(code) ?? ['Unknown', `code ${code}`];
  const message = `${op}: ${text}${reason ? `: ${reason}` : ''} (${code})`;
  return new ParleyError({ code, name, message, op, retryAfter, reason, to, advice: adviceOf(code) });
}

/** Returns an error that no server sent. */
export function failure(name, op = '', cause = undefined) {
  const [text, advice] = own.get(name);
  const why = cause instanceof ParleyError ? '' : cause instanceof Error ? cause.message : (cause ?? '');
  const message = `${op ? `${op}: ` : ''}${text}${why ? `: ${why}` : ''}`;
  return new ParleyError({ name, message, op, advice }, cause);
}

/** Returns err if it is a ParleyError, else a Protocol error: this library failed to make sense of what a server sent. */
export function known(err, op) {
  return err instanceof ParleyError ? err : failure('Protocol', op, err);
}

/** Returns the same error for another operation. */
export function during(op, err) {
  return err.code ? err : failure(err.name, op, err.cause ?? err);
}
