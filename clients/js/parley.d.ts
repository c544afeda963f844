/**
 * The JavaScript client of a Parley cluster, for browsers and Node: log in, chat, read history, stay connected.
 *
 * A {@link Session} stays logged in through lost connections and restarted nodes. It sends each text until a server has stored
 * it, under one unique id, and brings each text of each thread once and in order, this user's own included.
 * A {@link Gate} does accounts over HTTP.
 *
 * **Ids.** Uids, thread ids and message ids are integers from 1 to 2³¹−1 on the wire, so they are numbers here. A number that
 * JavaScript could not hold exactly ends the connection with a `Protocol` error; it is never rounded.
 *
 * **Times** are `Date` objects, to the millisecond; durations are milliseconds.
 */

/** This library's version, as it tells it to servers. */
export const VERSION: string;

/** The longest text, in bytes of UTF-8: 4096. */
export const MAX_TEXT: number;

/** Where the server stops to count unread texts: 100, which means that many or more. */
export const MAX_UNREAD: number;

/** How many users may be watched at once: 500. */
export const MAX_WATCHED: number;

/** Returns a new unique id for a text or a group: 26 random characters. */
export function newId(): string;

/** Returns the length of a text in bytes of UTF-8, to compare with {@link MAX_TEXT}. */
export function textLength(text: string): number;

// ---------------------------------------------------------------------------------------------------------------- errors

/**
 * What went wrong, in one word. The first group are refusals by a server, with a `code`; the second are this library's own,
 * with `code` 0.
 */
export type ErrorName =
  | 'CodeNotStored' // 1: the verification code could not be stored
  | 'MailNotSent' // 2
  | 'BadJSON' // 1001
  | 'NoServer' // 1002: no server could take the request
  | 'NoVerificationCode' // 1003: none is waiting for this address, or it has expired
  | 'WrongVerificationCode' // 1004
  | 'UserExists' // 1005: the name or the address is taken
  | 'PasswordsDiffer' // 1006
  | 'EmailMismatch' // 1007: no such user, or another address
  | 'PasswordNotChanged' // 1008
  | 'WrongPassword' // 1009: wrong address or password
  | 'TokenInvalid' // 1010: log in again
  | 'NoSuchUser' // 1011
  | 'NotFriends' // 1012: there is no thread with this user
  | 'HistoryNotRead' // 1013
  | 'Internal' // 2000: the server's fault; the request may have taken effect
  | 'Busy' // 2001
  | 'Unavailable' // 2002: the server cannot reach its stores
  | 'RateLimited' // 2003
  | 'SlowConsumer' // 2004
  | 'BadRequest' // 2005: the request can never succeed
  | 'NotAllowed' // 2006
  | 'TooFarBehind' // 2007
  | 'Draining' // 2008: the node is going away
  | 'Unknown' // a code that this library does not know
  | 'Network' // no connection, or it broke
  | 'Timeout' // no answer in time
  | 'Protocol' // the server sent what this library cannot read
  | 'Closed' // close() was called
  | 'Replaced' // the user logged in elsewhere with the same device name
  | 'LoggedOut' // logout() was called, here or for all devices
  | 'InvalidText' // empty, longer than MAX_TEXT, or with a NUL or half a surrogate pair
  | 'InFlight' // a text with this unique id is already waiting for its answer
  | 'QueueFull' // too many texts or requests wait already
  | 'Unsupported' // the server does not support this
  | 'Aborted'; // the caller's AbortSignal

/** Every promise of this library that fails, fails with a ParleyError (a `TypeError` for arguments that are never valid). */
export class ParleyError extends Error {
  /** The server's code, or 0 if no server refused anything. */
  readonly code: number;
  readonly name: ErrorName;
  /** A sentence for logs. Programs compare `name`. */
  readonly message: string;
  /** How long the server asks to wait before the next attempt, in milliseconds; 0 if it said nothing. */
  readonly retryAfter: number;
  /** What was attempted: 'login', 'send', 'history' and so on; 'goodbye' for a connection that the server closed. */
  readonly op: string;
  /**
   * What to do: `retry` the same request later, `login` again at the gate because a token or ticket is used up, or `give up`
   * because the same request would fail again.
   */
  readonly advice: 'retry' | 'login' | 'give up';
  /** The server's own words, for people; usually empty. */
  readonly reason: string;
}

// ------------------------------------------------------------------------------------------------------------------ gate

/** Options of a {@link Gate}. */
export interface GateOptions {
  /** Does the exchanges. Default: the global `fetch`. */
  fetch?: typeof fetch;
  /** Bounds an exchange, in milliseconds. Default 15000. */
  timeout?: number;
}

/** A new user. */
export interface Registration {
  /** Unique. */
  name: string;
  /** Unique. */
  email: string;
  /** 6 to 128 characters. */
  password: string;
  /** The verification code, from {@link Gate.requestCode}. */
  code: string;
  /** Default: the name. */
  nick?: string;
  /** A path among the stock client's pictures. Default: the first portrait. */
  icon?: string;
  sex?: number;
}

/**
 * Lets one user log in at a chat node once: by the `token` of a gate login or by the `resume` ticket of an earlier connection,
 * which holds for that connection's device name. It is a secret. A plain object, so that it can be kept as JSON.
 */
export interface Ticket {
  uid: number;
  /** Valid for ten minutes. */
  token?: string;
  /** Valid for a day, on any node, until the next one is used. */
  resume?: string;
  /** The WebSocket address of the chat node, such as `ws://127.0.0.1:8092/`. */
  url: string;
  /** Further nodes where a resume ticket can be used; a session remembers one that its node names, and the last few. */
  nodes?: string[];
}

/** Speaks to a gate over HTTP: accounts and logins. Passwords travel as typed, so use https outside a loopback address. */
export class Gate {
  /** @param url such as `https://chat.example.com`; '' in a browser: the page's own origin. */
  constructor(url: string, options?: GateOptions);
  readonly url: string;
  /** Has a verification code mailed to the address. Registering and resetting a password need one. */
  requestCode(email: string): Promise<void>;
  /** Makes a user. Refused with `UserExists`, `WrongVerificationCode`, `NoVerificationCode` or `BadRequest` (name or password). */
  register(user: Registration): Promise<{ uid: number }>;
  /** Sets a new password for the user with that name and address. All sessions of the user end. */
  resetPassword(reset: { name: string; email: string; password: string; code: string }): Promise<void>;
  /** Replaces a password; needs the old one. All sessions of the user end. */
  changePassword(change: { email: string; password: string; newPassword: string }): Promise<void>;
  /** Checks the password and returns a ticket for the chat node the user is placed on. A {@link Session} does this by itself. */
  login(email: string, password: string): Promise<Ticket>;
  /** Deletes the account, for good. Texts stay, under the name "deleted". */
  deleteAccount(email: string, password: string): Promise<void>;
}

// -------------------------------------------------------------------------------------------------------- users, messages

/** The public data of a user. */
export interface Profile {
  uid: number;
  /** Unique. */
  name: string;
  nick: string;
  icon: string;
  sex: number;
  desc: string;
}

/** A user with whom this user exchanges texts. */
export interface Friend extends Profile {
  /** The name this user gave the friend; may be ''. */
  alias: string;
}

/** Another user's application for friendship. */
export interface Application extends Profile {
  greeting: string;
}

/** A user whom this user has blocked. */
export interface Blocked extends Profile {
  since: Date;
}

/** How far a user has read a thread, and what one of its devices has received; ids of messages. */
export interface Mark {
  uid: number;
  read: number;
  recv: number;
}

/** The role of a member of a group. Admins invite, remove, mute, rename and make links; the owner does everything. */
export type Role = 'member' | 'admin' | 'owner';

/** A conversation. */
export interface Thread {
  id: number;
  type: 'private' | 'group';
  /** The other user of a private thread; 0 in a group. */
  peer: number;
  /** The id of the newest message that this user may read; 0 in an empty thread. */
  lastId: number;
  /** How many texts by others lie above `read` and above this user's own newest text; {@link MAX_UNREAD} means that many or more. */
  unread: number;
  /** This user's own mark. */
  read: number;
  recv: number;
  /** The mark of the other user of a private thread; 0 unless the two are friends. A user who writes has read what was before. */
  peerRead: number;
  peerRecv: number;
  /** The name of a group; '' for a private thread. */
  name: string;
  /** This user's role in a group. */
  role: Role;
  /** The number of members of a group. */
  members: number;
  /** The id of the first message of a group that this user may read. */
  firstId: number;
  /** The id of the message by which this user ceased to be a member of a group; 0 for a member. */
  left: number;
  /** With `threads({ last: true })`: the newest message worth showing (a text or an event), if there is one among the newest few. */
  last?: Message;
}

/** What an event of a group tells of. A server may send others. */
export type GroupChange =
  | 'created' // `by` made it, with `uids` as members
  | 'joined' // `by` joined by a link
  | 'invited' // `by` added `uids`
  | 'left' // `by` left
  | 'removed' // `by` removed `uids`
  | 'role' // `by` made `uids` members or admins: `role`
  | 'owner' // `by` made `uids[0]` the owner
  | 'renamed' // `by` named it `name`
  | 'muted' // `by` muted `uids` until `until`
  | 'unmuted' // `by` lets `uids` write again
  | 'mute_all' // `by` muted all members, or no more: `on`
  | 'history' // `by` opened the history to new members, or closed it: `on`
  | 'dissolved'; // `by` dissolved the group

/** A change of a group, in its place among the texts. */
export interface GroupEvent {
  what: GroupChange | (string & {});
  by: number;
  uids: number[];
  name: string;
  role: Role;
  until: Date | null;
  on: boolean;
}

/**
 * A stored text, or a row that tells of a change: of a group, or of a text before it. In a thread ids count 1, 2, 3 … without
 * holes, in the same order for all members.
 *
 * A text that comes from the history is as it is now, also if it was edited since. The later row that tells of the edit comes
 * all the same; to apply it again changes nothing.
 */
export interface Message {
  thread: number;
  id: number;
  /**
   * `text`; `event` of a group, see `event`; `recall`: the text `target` was recalled by `sender`; `edit`: the text `target` was
   * edited, and `text`, `type` and `edited` are what it is now; `other` is something newer than this library: skip it.
   */
  kind: 'text' | 'event' | 'recall' | 'edit' | 'other';
  sender: number;
  /** The unique id that its sender gave it: equal to {@link Draft.id} for an own text. */
  uniqueId: string;
  /** '' unless `kind` is `text` or `edit`. */
  text: string;
  /** The type of the text as its sender named it, such as 'image/png' for a reference to an image; '' for plain text. */
  type: string;
  /** When the server stored it. */
  time: Date;
  /** When the text was edited last; null if it was not. In an `edit` it is null, and `text` empty, if the text was recalled since. */
  edited: Date | null;
  /** The text was recalled; `text` is empty. */
  recalled: boolean;
  /** This user has hidden the message. All but its ids is empty. */
  hidden: boolean;
  /** The id of the text that a `recall` or `edit` is about; otherwise 0. */
  target: number;
  /** null unless `kind` is `event`. */
  event: GroupEvent | null;
}

/** A part of a thread's history. */
export interface Page {
  thread: number;
  /** Ascending by id. */
  messages: Message[];
  /** Whether there is more in the direction asked for: older messages with `before`, newer ones with `after`. */
  more: boolean;
}

/** Up to where a program has dealt with a thread. */
export interface Cursor {
  thread: number;
  lastId: number;
}

/** Where a text goes: a thread's id, or `{ user: uid }` for a friend, whose private thread the server finds or makes. */
export type To = number | { thread: number } | { user: number };

/** Options of {@link Session.send}. */
export interface SendOptions {
  /** The unique id of the text, 1 to 64 bytes. Texts with the same one are stored once. Default: {@link newId}. */
  id?: string;
  /** What the text is, such as 'image/png' for a reference to an image: 1 to 32 of `[a-z0-9./+-]`. Default: plain text. */
  type?: string;
  /**
   * Ends the waiting: the promise fails with `Aborted`. A text that was not sent yet is not sent; one that was may have been
   * stored.
   */
  signal?: AbortSignal;
}

/** A stored text of this user. */
export interface Sent {
  /** The unique id. */
  id: string;
  thread: number;
  /** The id of the message in its thread. */
  messageId: number;
  time: Date;
}

/** A text that was not answered yet. */
export interface Draft {
  /** The unique id. */
  id: string;
  to: { thread: number } | { user: number };
  text: string;
  type: string;
  /** When send was called. */
  since: Date;
  /**
   * `sending`: on its way; `waiting`: for a connection, or behind other texts of the thread; `refused`: the server asked to try
   * again later, and the session will.
   */
  state: 'sending' | 'waiting' | 'refused';
}

/** Whether a user is online. A user who is no friend, or is not visible, looks like one who was never seen. */
export interface Presence {
  uid: number;
  online: boolean;
  /** When a user who is not online was last so, to the minute; null if that is not known. */
  lastSeen: Date | null;
}

// ---------------------------------------------------------------------------------------------------------------- groups

/** What a user may know of a group. */
export interface Group {
  thread: number;
  name: string;
  owner: number;
  members: number;
  /** Only the owner and admins may write. */
  muteAll: boolean;
  /** New members may read what was stored before they joined. */
  historyForNew: boolean;
  dissolved: boolean;
  created: Date;
  /** This user's role. */
  role: Role;
  /** Until when this user is muted; null if it is not. */
  mutedUntil: Date | null;
  /** The id of the first message that this user may read. */
  firstId: number;
  lastId: number;
  /** The id of the last message that a former member may read; 0 for a member. */
  left: number;
}

export interface GroupMember extends Profile {
  role: Role;
  joined: Date;
  mutedUntil: Date | null;
}

/** A code by which users can join a group. A secret of those who have it. */
export interface Link {
  code: string;
  /** Who made it. */
  by: number;
  created: Date | null;
  expires: Date;
  /** How often it may still be used. */
  uses: number;
}

/** A new group. A second one with the same `id` by the same user is the same group. */
export interface GroupDraft {
  /** 1 to 64 printable characters. */
  name: string;
  /** Uids of friends to add at once. This user becomes the owner. */
  members?: number[];
  /** Unique id. Default: {@link newId}. */
  id?: string;
}

// --------------------------------------------------------------------------------------------------------------- session

/** What a session keeps its ticket in: `localStorage`, `sessionStorage`, or an object with the same three methods. */
export interface Storage {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
  removeItem(key: string): void;
}

/** The part of the WebSocket interface that a session uses: the browser's, Node 22's, or that of package `ws`. */
export type WebSocketConstructor = new (url: string, protocols?: string | string[]) => {
  binaryType: string;
  readonly bufferedAmount: number;
  onopen: ((event: any) => void) | null;
  onmessage: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  send(data: Uint8Array): void;
  close(code?: number, reason?: string): void;
};

/**
 * Options of a {@link Session}. A session needs something to log in with: `gate`, `email` and `password`; or a `ticket`; or
 * a `storage` in which an earlier session has left its ticket. It tries the ticket first.
 */
export interface SessionOptions {
  /** The gate: an address, or a {@link Gate}. '' in a browser means the page's own origin. */
  gate?: string | Gate;
  email?: string;
  /** Kept in memory while the session lives, to log in again when the ticket is refused; never stored. */
  password?: string;
  /** For the first login, before the gate. */
  ticket?: Ticket;
  /**
   * Where the newest resume ticket is kept, so that a page that is loaded again stays logged in. Removed when the session is
   * logged out, replaced or refused for good. Default: nowhere.
   */
  storage?: Storage;
  /** The key in `storage`. Default 'parley'. */
  storageKey?: string;
  /**
   * Tells the sessions of one user apart: a newer login with the same name replaces the older. 1 to 32 of `[a-z0-9_-]`; a user
   * may have 8. Two tabs need two names. Default 'js'.
   */
  device?: string;
  /** Name and version of the program, for the server's log. Default 'parley-js/' and {@link VERSION}. */
  client?: string;
  /** Does the exchanges with the gate. Default: the global `fetch`. */
  fetch?: typeof fetch;
  /** Opens connections. Default: the global `WebSocket`, which Node has from version 22 on; before, pass that of package `ws`. */
  WebSocket?: WebSocketConstructor;
  /** Which of the node's addresses to use. Default: `wss` if the gate or the page came by https, otherwise `ws` if the node offers it. */
  transport?: 'ws' | 'wss';
  /** Addresses of further chat nodes where a resume ticket is tried when the last node does not answer. */
  nodes?: string[];
  /**
   * What the program has dealt with, from {@link Session.cursors}: the session brings everything after it, and all of the
   * threads that are not among them. Default: it begins at the present and brings what is stored from now on.
   */
  cursors?: Cursor[];
  /** What {@link Session.data} was when `cursors` were saved. If the server works on other data now, they are not used. */
  data?: string;
  /**
   * The wished period of heartbeats, 5000 to 300000. Default: what the server grants, usually 30 s. A server that sends nothing for half
   * a period after one, at most 10 s, counts as gone; as does one that sends nothing for 10 s after a text or a request.
   */
  heartbeat?: number;
  /** How many texts may wait for their answer; past it send fails with `QueueFull`. Default 1024. */
  maxUnsent?: number;
  /** Bounds a request, the wait for a connection included. Texts are not bounded. Default 15000. */
  requestTimeout?: number;
  /** Bounds connecting and logging in. Default 10000. */
  loginTimeout?: number;
  /** The waits between attempts to log in are uniform from 0 to min(limit, base·2ⁿ). Defaults 500 and 30000. */
  backoffBase?: number;
  backoffLimit?: number;
  /** How often, on average, a connected session looks for texts whose push was lost. Default 5 min; 0: never. */
  syncEvery?: number;
}

/** Options of requests. */
export interface RequestOptions {
  /** Ends the waiting: the promise fails with `Aborted`. The request may have taken effect. */
  signal?: AbortSignal;
}

/**
 * `idle` before open(); `connecting` while it logs in; `online`; `offline` while it waits for the next attempt; `closed` for
 * good.
 */
export type State = 'idle' | 'connecting' | 'online' | 'offline' | 'closed';

/** The events of a {@link Session}, by name. */
export interface SessionEvents {
  /** The state has changed, to {@link Session.state}. Comes with the more telling events below too. */
  state: { state: State };
  /** Logged in. Texts missed in between follow. `friends`, `applications` and `user` are new. */
  connected: {
    /** Name of the chat node; '' if the server does not tell. */
    node: string;
    /** No password was needed. */
    resumed: boolean;
  };
  /** The connection ended, or an attempt to log in failed; the session tries again. */
  disconnected: {
    error: ParleyError;
    /** How long it waits before the next attempt, in milliseconds. */
    retry: number;
  };
  /** The session has ended for good. `Closed`, `LoggedOut`, `Replaced`, or an error that no further attempt would mend. */
  closed: { error: ParleyError };
  /** Everything that was stored before the latest `connected` has been brought. */
  caughtup: Record<string, never>;
  /**
   * Messages of one thread, ascending by id. They go on exactly where the last ones of the thread ended, and include this user's
   * own, from whatever device. Those of a group end with the event by which the user leaves, until it joins again.
   */
  texts: { thread: number; messages: Message[] };
  /** A user applies for friendship; `applications` holds it. */
  applied: { application: Application };
  /** A user accepted this user's application, or another device of this user accepted one; `friends` holds the user. */
  approved: { friend: Profile; messages: Message[] };
  /** Another device of this user ended a friendship, blocked or unblocked a user. */
  friendschanged: { uid: number; change: 'unfriend' | 'block' | 'unblock' | (string & {}) };
  /** Users have read or received more of a thread. A hint that may be lost: threads() and marks() tell what is stored. */
  marks: { thread: number; marks: Mark[] };
  /** Another device of this user has hidden messages. A hint that may be lost: the history says what is hidden. */
  hidden: { thread: number; ids: number[] };
  /** Watched users whose presence has changed, and after each watch() and reconnect all of them. The latest one counts. */
  online: { states: Presence[] };
  /** A user is typing. The server repeats it every 3 s at most; take it for about 5 s. */
  typing: { thread: number; uid: number };
  /** The texts that are not answered yet have changed; see {@link Session.unsent}. */
  unsent: { drafts: Draft[] };
  /**
   * What the server has stored is not what it was. With `thread` 0 all was replaced: the texts that the server has now follow, from
   * the beginning of each thread. Otherwise an older backup was restored: this thread ends at `lastId` now.
   */
  datareplaced: { thread: number; lastId: number };
}

/**
 * A user that stays logged in. When a connection ends it logs in again, by resume ticket if it can, sends again what was
 * not answered, under the same unique ids, and reads what was missed.
 *
 * ```js
 * const session = new Session({ gate: 'http://127.0.0.1:8080', email, password });
 * session.on('texts', ({ thread, messages }) => show(thread, messages));
 * await session.open();
 * const sent = await session.send({ user: 1002 }, 'hello');
 * ```
 *
 * Events come one after the other, in order. If a handler returns a promise, the session waits for it before the
 * next event, and keeps what comes meanwhile in a bounded queue; texts beyond the bound are read from the history afterwards. So a handler
 * may await requests of the session, but not other events. An exception in a handler is reported like any uncaught one and
 * does not disturb the session.
 *
 * Requests wait for a connection while there is none, at most `requestTimeout`, and are repeated on the next connection if one
 * breaks under them, if that is safe.
 */
export class Session {
  constructor(options: SessionOptions);

  /**
   * Logs in. It does not repeat a failed attempt: `advice` says whether that would help, and open() may be called again
   * then. Texts sent by others after it has resolved are never missed. Add handlers before.
   */
  open(options?: RequestOptions): Promise<void>;
  /**
   * Ends the session. Texts not answered yet fail with `Closed`; flush() before to have them answered. Read marks that wait are
   * sent before, which takes at most a second. The ticket stays valid.
   */
  close(): Promise<void>;
  /** Ends the session and makes its resume ticket useless. */
  logout(options?: RequestOptions): Promise<void>;
  /** Ends all sessions of this user on all devices, and makes all tokens and tickets useless. */
  logoutEverywhere(options?: RequestOptions): Promise<void>;
  /** Tries to connect now, if the session waits for its next attempt. Browsers' `online` events do so by themselves. */
  reconnect(): void;

  /** Adds a handler, and returns a function that removes it. */
  on<E extends keyof SessionEvents>(name: E, handler: (event: SessionEvents[E]) => unknown): () => void;
  /** Removes a handler. */
  off<E extends keyof SessionEvents>(name: E, handler: (event: SessionEvents[E]) => unknown): void;

  readonly state: State;
  /** Why the session has ended; null while it lives. */
  readonly error: ParleyError | null;
  /** This user, as of the latest login; null before the first. */
  readonly user: Profile | null;
  /** The friends as far as known, by uid. A new array each time. */
  readonly friends: Friend[];
  /** The pending applications to this user, by uid. A new array each time. */
  readonly applications: Application[];
  /** Name of the chat node of the latest connection; '' if it does not tell. */
  readonly node: string;
  /** The id of the server's data that the cursors are of; '' if the server does not tell. */
  readonly data: string;
  /** The newest resume ticket, for another session; null if there is none. A secret. */
  readonly ticket: Ticket | null;
  /** Up to where `texts` handlers have dealt with each thread, by thread. Saved and given to another session they continue there. */
  cursors(): Cursor[];
  /** Whether the server granted a capability: 'groups', 'rows' (recall, edit, hide), 'marks', 'presence'. */
  granted(capability: string): boolean;

  // Texts

  /**
   * Sends a text. The promise resolves once a server has stored it, through any number of connections, and fails if the server refuses
   * it for good or the session ends. Texts to one destination are stored in the order of the calls. Use one way to
   * name a destination: a friend and the thread with that friend are two queues. The text also comes as `texts`,
   * before or after the promise resolves.
   */
  send(to: To, text: string, options?: SendOptions): Promise<Sent>;
  /** The texts that are not answered yet, oldest first. */
  unsent(): Draft[];
  /** Resolves when no text waits for its answer. */
  flush(options?: RequestOptions): Promise<void>;
  /** Takes a text of this user back, usually within 2 min, or as an admin any text of a group: its content is gone for everybody. */
  recall(thread: number, id: number, options?: RequestOptions): Promise<void>;
  /** Replaces the content of an own text, usually within 15 min. */
  edit(thread: number, id: number, text: string, options?: RequestOptions): Promise<void>;
  /** Hides up to 100 messages from this user, on all devices and for good. Others still see them. */
  hide(thread: number, ids: number[], options?: RequestOptions): Promise<void>;
  /** Tells the members of a thread that this user is typing. Call it at every key: it sends one notice per 3 s at most. */
  typing(thread: number): void;

  // Threads and history

  /**
   * All threads of this user, by id. With `last`, each with its newest message worth showing, for up to 300 threads with the
   * highest ids.
   */
  threads(options?: RequestOptions & { last?: boolean }): Promise<Thread[]>;
  /** The id of the private thread with a friend. Refused with `NotFriends`. */
  openThread(uid: number, options?: RequestOptions): Promise<number>;
  /**
   * A part of a thread's history: with `before` the newest messages below that id, with `after` the oldest above it; with neither
   * the newest of all. `limit` is 1 to 500, default 50. With `after` the server may cut a page shorter: go on after its
   * last message while `more` is true. A thread of other users reads as empty.
   */
  history(thread: number, options?: RequestOptions & { before?: number; after?: number; limit?: number }): Promise<Page>;
  /** Says that this user has read a thread up to a message. The session stores the newest mark of each thread when it can, once per second at most. What it brings as `texts` it marks as received by itself. */
  markRead(thread: number, id: number): void;
  /** The same, and waits until it is stored. Returns the mark of this user then. */
  mark(thread: number, id: number, options?: RequestOptions): Promise<Mark>;
  /** The marks of a thread, by uid: of the members of a group or the two users of a private thread. Users who have marked nothing are left out. */
  marks(thread: number, options?: RequestOptions): Promise<Mark[]>;

  // Friends

  /** Finds a user by exact name, or by uid if the query is all digits. Refused with `NoSuchUser`. */
  search(query: string, options?: RequestOptions): Promise<Profile>;
  /** Asks a user to be a friend. Applying again replaces the greeting. `alias` is the name to give the friend. */
  apply(uid: number, options?: RequestOptions & { greeting?: string; alias?: string }): Promise<void>;
  /** Accepts the application of a user. Not repeated if the connection breaks: `friends` holds the user after the next `connected` if it was done. */
  approve(uid: number, options?: RequestOptions & { alias?: string }): Promise<{ friend: Friend; messages: Message[] }>;
  /** Ends the friendship; the other user is not told. The thread stays readable. */
  unfriend(uid: number, options?: RequestOptions): Promise<void>;
  /** Ends the friendship, and has the user's applications dropped unseen. */
  block(uid: number, options?: RequestOptions): Promise<void>;
  /** Lets a user apply again. */
  unblock(uid: number, options?: RequestOptions): Promise<void>;
  /** The users whom this user has blocked, by uid. */
  blocks(options?: RequestOptions): Promise<Blocked[]>;

  // Presence

  /**
   * Has `online` events tell of these users, at most {@link MAX_WATCHED}, and of no others any more. Returns their present states. It
   * lasts over reconnects.
   */
  watch(uids: number[], options?: RequestOptions): Promise<Presence[]>;
  /** Says whether friends may see this user's presence, on all devices, until it is changed. */
  setVisible(visible: boolean, options?: RequestOptions): Promise<void>;
  /** Whether friends may see this user's presence. */
  visible(options?: RequestOptions): Promise<boolean>;

  // Groups. Changes come as messages of kind `event`, to all members in the same order. Refusals are `NotAllowed`.

  createGroup(group: GroupDraft, options?: RequestOptions): Promise<{ thread: number; refused: number[] }>;
  group(thread: number, options?: RequestOptions): Promise<Group>;
  /** The members, by uid; all of them, or up to `limit` (at most 500) above the uid `after`. */
  groupMembers(thread: number, options?: RequestOptions & { after?: number; limit?: number }): Promise<GroupMember[]>;
  /** Adds friends. Returns those who were not added: no friends, or in too many groups. Admins and the owner. */
  invite(thread: number, uids: number[], options?: RequestOptions): Promise<{ refused: number[] }>;
  /** Ends this user's membership. The owner hands the group over or dissolves it instead. */
  leaveGroup(thread: number, options?: RequestOptions): Promise<void>;
  /** Ends the membership of a user with a lower role. Admins and the owner. */
  removeMember(thread: number, uid: number, options?: RequestOptions): Promise<void>;
  /** The owner only. 'owner' hands the group over; this user becomes an admin. */
  setRole(thread: number, uid: number, role: Role, options?: RequestOptions): Promise<void>;
  renameGroup(thread: number, name: string, options?: RequestOptions): Promise<void>;
  /** Lets only admins and the owner write, or all members again. */
  muteGroup(thread: number, on: boolean, options?: RequestOptions): Promise<void>;
  /** Whether users who join from now on read what was stored before. */
  setHistoryForNew(thread: number, on: boolean, options?: RequestOptions): Promise<void>;
  /** Refuses the texts of a member with a lower role until a time; null lets the member write again. */
  muteMember(thread: number, uid: number, until: Date | null, options?: RequestOptions): Promise<void>;
  /** Ends the group for all members. What they could read stays readable. The owner only. */
  dissolveGroup(thread: number, options?: RequestOptions): Promise<void>;
  /** Makes a code by which users can join: within `ttl` milliseconds (1 min to 30 days, default 7 days), `uses` times (1 to 10000, default 1). */
  createLink(thread: number, options?: RequestOptions & { ttl?: number; uses?: number }): Promise<Link>;
  /** The links that can still be used. */
  links(thread: number, options?: RequestOptions): Promise<Link[]>;
  revokeLink(thread: number, code: string, options?: RequestOptions): Promise<void>;
  /** Makes this user a member of the link's group. */
  joinByLink(code: string, options?: RequestOptions): Promise<{ thread: number; name: string }>;
}
